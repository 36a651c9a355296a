//! The network between a function and one service, with faults that a test switches: real sockets,
//! so that drivers meet what they meet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The mode, and how often it was `Refuse`: connections of before such a time end, however short it
/// was.
type State = (Mode, u64);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Refuse,
    Stall,
    CutAfter(u64),
    /// The word, and how often the client says it.
    CutBehind(&'static str, u32),
    FailPercent(u64),
}

/// Forwards connections to one service, as long as it is held; its port stays taken until the
/// test's end.
pub struct Proxy {
    port: u16,
    state: watch::Sender<State>,
    counts: Arc<Counts>,
}

/// What went through a proxy.
#[derive(Default)]
struct Counts {
    /// Bytes of clients.
    sent: AtomicU64,
    statements: AtomicU64,
    waits: AtomicU64,
}

impl Proxy {
    /// A proxy before `upstream` (host:port).
    ///
    /// # Panics
    /// Where no port is free, or outside a runtime.
    #[must_use]
    pub fn start(upstream: String) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket for the runtime");
        let listener = TcpListener::from_std(listener).expect("a runtime");
        let port = listener.local_addr().expect("its address").port();
        let (state, states) = watch::channel((Mode::Pass, 0));
        let counts = Arc::<Counts>::default();
        tokio::spawn(accept(listener, upstream.into(), states, Arc::clone(&counts)));
        Self { port, state, counts }
    }

    /// Where it listens on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many bytes clients have sent through it so far: where a sweep of cuts ends.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.counts.sent.load(Ordering::SeqCst)
    }

    /// How many statements clients have sent to PostgreSQL through it, those included that are only
    /// to be parsed.
    #[must_use]
    pub fn statements(&self) -> u64 {
        self.counts.statements.load(Ordering::SeqCst)
    }

    /// How often a client has asked PostgreSQL through it when nothing asked before was unanswered:
    /// how often it waited for one round trip, however many statements that had. Nobody waits for a
    /// ROLLBACK.
    #[must_use]
    pub fn waits(&self) -> u64 {
        self.counts.waits.load(Ordering::SeqCst)
    }

    /// Forwards everything again: what was stalled goes on, what was to be cut is not.
    pub fn pass(&self) {
        self.state.send_modify(|state| state.0 = Mode::Pass);
    }

    /// Closes every connection, old or new, at once: the service is stopped.
    pub fn refuse(&self) {
        self.state.send_modify(|state| *state = (Mode::Refuse, state.1 + 1));
    }

    /// Takes connections and forwards nothing in either direction: the service hangs.
    pub fn stall(&self) {
        self.state.send_modify(|state| state.0 = Mode::Stall);
    }

    /// Cuts each new connection once exactly so many bytes of its client have reached the service.
    pub fn cut_after(&self, bytes: u64) {
        self.state.send_modify(|state| state.0 = Mode::CutAfter(bytes));
    }

    /// Cuts each new connection once its client has said this (a commit): the service hears it, the
    /// answer is lost.
    pub fn cut_behind(&self, word: &'static str) {
        self.cut_behind_nth(word, 1);
    }

    /// The same once its client has said it so often.
    pub fn cut_behind_nth(&self, word: &'static str, times: u32) {
        self.state.send_modify(|state| state.0 = Mode::CutBehind(word, times));
    }

    /// Closes each new connection at once with this chance: a service that restarts again and
    /// again. Every run has the same luck.
    pub fn fail_percent(&self, percent: u64) {
        self.state.send_modify(|state| state.0 = Mode::FailPercent(percent));
    }
}

async fn accept(
    listener: TcpListener,
    upstream: Arc<str>,
    states: watch::Receiver<State>,
    counts: Arc<Counts>,
) {
    let mut luck = 1_u64;
    while let Ok((client, _)) = listener.accept().await {
        let state = *states.borrow();
        if let Mode::FailPercent(percent) = state.0 {
            // Knuth's linear congruential generator; its upper bits are the random ones.
            luck = luck
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            if (luck >> 33) % 100 < percent {
                continue;
            }
        }
        let (upstream, states, counts) =
            (Arc::clone(&upstream), states.clone(), Arc::clone(&counts));
        tokio::spawn(async move { carry(client, &upstream, state, states, &counts).await.ok() });
    }
}

/// Carries one connection until either end, or the mode, ends it.
async fn carry(
    mut client: TcpStream,
    upstream: &str,
    began: State,
    mut states: watch::Receiver<State>,
    counts: &Counts,
) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut left = if let Mode::CutAfter(bytes) = began.0 { bytes } else { u64::MAX };
    let (mut server, mut asked, mut answered) = (None, vec![0; 8192], vec![0; 8192]);
    let (mut questions, mut answers) = (Messages::of_client(), Messages::default());
    let (mut unanswered, mut heard) = (0_u64, 0);
    loop {
        let going = states
            .wait_for(|(mode, refused)| *mode != Mode::Stall || *refused > began.1)
            .await
            .map(|state| *state);
        let Ok((mode, refused)) = going else { return Ok(()) };
        left = if mode == Mode::Pass { u64::MAX } else { left };
        if mode == Mode::Refuse || refused > began.1 || left == 0 {
            return Ok(());
        }
        let server = match &mut server {
            Some(server) => server,
            none => none.insert(TcpStream::connect(upstream).await?),
        };
        server.set_nodelay(true)?;
        tokio::select! {
            biased;
            changed = states.changed() => if changed.is_err() { return Ok(()) },
            read = server.read(&mut answered) => match read? {
                0 => return Ok(()),
                bytes => {
                    let ready = answers.count(&answered[..bytes], b"Z");
                    // One for which nobody asked ends the start of the connection.
                    unanswered = unanswered.saturating_sub(ready);
                    client.write_all(&answered[..bytes]).await?;
                }
            },
            read = client.read(&mut asked) => {
                let bytes = read?.min(usize::try_from(left).unwrap_or(usize::MAX));
                if bytes == 0 {
                    return Ok(());
                }
                let said = |word: &str| {
                    asked[..bytes].windows(word.len()).any(|said| said == word.as_bytes())
                };
                if let Mode::CutBehind(word, times) = began.0 {
                    heard += u32::from(said(word));
                    if mode != Mode::Pass && heard == times {
                        left = bytes as u64;
                    }
                }
                let questions = questions.count(&asked[..bytes], b"QS");
                let waits = questions > 0 && unanswered == 0
                    && asked[..bytes] != *b"Q\0\0\0\rROLLBACK\0";
                counts.waits.fetch_add(u64::from(waits), Ordering::SeqCst);
                counts.statements.fetch_add(questions, Ordering::SeqCst);
                unanswered += questions;
                server.write_all(&asked[..bytes]).await?;
                counts.sent.fetch_add(bytes as u64, Ordering::SeqCst);
                left -= bytes as u64;
                if left == 0 {
                    // In order after the bytes, so that the service gets them all.
                    server.shutdown().await?;
                }
            }
        }
    }
}

/// PostgreSQL's messages: a letter, the length of the rest in four bytes, the rest. Of another
/// service it says nothing of use.
#[derive(Default)]
struct Messages {
    head: Vec<u8>,
    skip: usize,
}

impl Messages {
    /// Those of a client, whose first has no letter.
    fn of_client() -> Self {
        Self { head: vec![0], skip: 0 }
    }

    /// How many of those that begin in these bytes have one of these letters.
    fn count(&mut self, mut bytes: &[u8], letters: &[u8]) -> u64 {
        let mut found = 0;
        loop {
            let skipped = self.skip.min(bytes.len());
            (self.skip, bytes) = (self.skip - skipped, &bytes[skipped..]);
            let Some((byte, rest)) = bytes.split_first() else { return found };
            self.head.push(*byte);
            bytes = rest;
            if let [kind, a, b, c, d] = self.head[..] {
                found += u64::from(letters.contains(&kind));
                self.skip = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
                self.head.clear();
            }
        }
    }
}
