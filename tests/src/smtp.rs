//! A mail server at the socket (RFC 5321), with the faults that a test switches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// How far a mail has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// A connection.
    Greeting,
    /// RCPT.
    Recipient,
    /// DATA: the server has said that the message may come.
    Data,
    /// The dot at its end: the server has taken it.
    Dot,
}

/// What goes wrong from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The server greets by this, and closes.
    Greets(&'static str),
    /// The server says nothing more.
    Stalls(At),
    /// The server closes the connection.
    Drops(At),
}

/// How a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Not at all, nor is it offered.
    No,
    /// By STARTTLS.
    Start,
    /// From the first byte.
    Wrapped,
}

/// A mail that the server has taken, whether or not it could say so.
#[derive(Debug, Clone)]
pub struct Taken {
    /// RCPT.
    pub to: String,
    /// The message, its lines ended by `\n`.
    pub message: String,
    /// Who had logged in.
    pub by: Option<String>,
}

impl Taken {
    /// A header, its folds undone.
    ///
    /// # Panics
    /// Where there is none, or more than one.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        let head = self.message.split("\n\n").next().unwrap_or_default().replace("\n ", " ");
        let found: Vec<&str> =
            head.lines().filter_map(|line| line.strip_prefix(&format!("{name}: "))).collect();
        assert_eq!(found.len(), 1, "{name} in {head}");
        found[0].to_owned()
    }

    /// Message-ID.
    #[must_use]
    pub fn id(&self) -> String {
        self.header("Message-ID")
    }
}

/// What the server does and has seen.
pub struct State {
    /// What goes wrong.
    pub fault: Fault,
    /// Answers to RCPT of these addresses.
    pub refused: HashMap<String, &'static str>,
    /// Who must log in, and by what password.
    pub login: Option<(&'static str, &'static str)>,
    /// Passwords that were offered, right or wrong.
    pub passwords: Vec<String>,
    /// Connections so far.
    pub connections: usize,
    /// Mails so far.
    pub taken: Vec<Taken>,
}

/// A mail server, as long as the test runs.
pub struct Smtp {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    /// Its certificate, for `localhost`, as PEM.
    pub certificate: String,
    state: Arc<Mutex<State>>,
}

impl Smtp {
    /// A server that takes everything.
    ///
    /// # Panics
    /// Where no port is free.
    pub async fn start(tls: Tls) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let state = State {
            fault: Fault::None,
            refused: HashMap::new(),
            login: None,
            passwords: Vec::new(),
            connections: 0,
            taken: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
            .expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .expect("a config");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let seen = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), Arc::clone(&seen));
                lock(&state).connections += 1;
                tokio::spawn(async move {
                    if tls == Tls::Wrapped {
                        return serve(acceptor.accept(socket).await?, &state, true, false)
                            .await
                            .map(drop);
                    }
                    match serve(socket, &state, true, tls == Tls::Start).await? {
                        Some(socket) => serve(acceptor.accept(socket).await?, &state, false, false)
                            .await
                            .map(drop),
                        None => Ok(()),
                    }
                });
            }
        });
        Self { port, certificate: certified.cert.pem(), state }
    }

    /// What it does and has seen.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// From now on this goes wrong.
    pub fn fault(&self, fault: Fault) {
        self.state().fault = fault;
    }

    /// Mails so far.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        self.state().taken.clone()
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state().connections
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no panic while it is held")
}

impl State {
    /// Checks the initial response of AUTH PLAIN (RFC 4616). Who it names, and whether they may.
    fn log_in(&mut self, response: &str) -> (String, bool) {
        let text = base64::engine::general_purpose::STANDARD.decode(response).unwrap_or_default();
        let mut parts = text.split(|byte| *byte == 0).skip(1).map(String::from_utf8_lossy);
        let user = parts.next().unwrap_or_default().into_owned();
        let password = parts.next().unwrap_or_default().into_owned();
        let right = self.login.is_some_and(|login| login == (user.as_str(), password.as_str()));
        self.passwords.push(password);
        (user, right)
    }
}

/// The lines up to the dot, unstuffed; none where the client leaves before it.
async fn read_message(
    stream: &mut (impl AsyncBufReadExt + Unpin),
) -> std::io::Result<Option<String>> {
    let (mut message, mut line) = (String::new(), String::new());
    while line != ".\r\n" {
        message.push_str(&line.strip_prefix('.').unwrap_or(&line).replace("\r\n", "\n"));
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(message))
}

/// Talks until either end leaves; the stream where the client asked for TLS.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    state: &Mutex<State>,
    greets: bool,
    offers_tls: bool,
) -> std::io::Result<Option<S>> {
    let mut stream = BufReader::new(stream);
    let (mut by, mut to, mut line) = (None, String::new(), String::new());
    let fault = |at: At| {
        let fault = lock(state).fault;
        (fault == Fault::Stalls(at), fault == Fault::Drops(at))
    };
    let greeting = lock(state).fault;
    if let Fault::Greets(words) = greeting {
        stream.get_mut().write_all(format!("{words}\r\n").as_bytes()).await?;
        return Ok(None);
    }
    if fault(At::Greeting).0 {
        std::future::pending::<()>().await;
    }
    if greets {
        stream.get_mut().write_all(b"220 mail.test ready\r\n").await?;
    }
    // RFC 5321, 4.1.4: a mail begins only where the last one was ended.
    let mut open = false;
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let (verb, rest) =
            line.trim_end().split_at(line.trim_end().find(' ').unwrap_or(line.trim_end().len()));
        let (mut at, rest) = (None, rest.trim().to_owned());
        let answer = match verb {
            "EHLO" => {
                let login = if lock(state).login.is_some() { "250-AUTH PLAIN\r\n" } else { "" };
                format!(
                    "250-mail.test\r\n{login}{}250 8BITMIME",
                    if offers_tls { "250-STARTTLS\r\n" } else { "" }
                )
            }
            "STARTTLS" if offers_tls => {
                stream.get_mut().write_all(b"220 go ahead\r\n").await?;
                return Ok(Some(stream.into_inner()));
            }
            "AUTH" => {
                let (user, right) = lock(state).log_in(rest.trim_start_matches("PLAIN "));
                by = right.then_some(user);
                if right { "235 welcome" } else { "535 5.7.8 wrong password" }.to_owned()
            }
            "MAIL" if by.is_none() && lock(state).login.is_some() => {
                "530 5.7.0 log in first".to_owned()
            }
            "MAIL" if open => "503 5.5.1 another mail is not ended".to_owned(),
            "MAIL" | "RSET" => {
                open = verb == "MAIL";
                "250 ok".to_owned()
            }
            "RCPT" => {
                at = Some(At::Recipient);
                to = rest.trim_start_matches("TO:<").trim_end_matches('>').to_owned();
                lock(state)
                    .refused
                    .get(&to)
                    .map_or("250 ok".to_owned(), |answer| (*answer).to_owned())
            }
            "DATA" => {
                stream.get_mut().write_all(b"354 go on\r\n").await?;
                let (stalls, drops) = fault(At::Data);
                if drops {
                    return Ok(None);
                }
                if stalls {
                    std::future::pending::<()>().await;
                }
                let Some(message) = read_message(&mut stream).await? else { return Ok(None) };
                open = false;
                lock(state).taken.push(Taken { to: to.clone(), message, by: by.clone() });
                at = Some(At::Dot);
                "250 2.0.0 taken".to_owned()
            }
            "QUIT" => {
                stream.get_mut().write_all(b"221 bye\r\n").await?;
                return Ok(None);
            }
            _ => "250 ok".to_owned(),
        };
        let (stalls, drops) = at.map_or((false, false), fault);
        if drops {
            return Ok(None);
        }
        if stalls {
            std::future::pending::<()>().await;
        }
        stream.get_mut().write_all(format!("{answer}\r\n").as_bytes()).await?;
        if answer.starts_with("421") {
            return Ok(None);
        }
    }
}
