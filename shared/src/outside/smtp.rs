//! Mail by SMTP (RFC 5321): one message to one recipient, over a connection that is kept while
//! there is more to send.
//!
//! A connection is kept only where both sides know how far they are. One on which anything was left
//! unanswered is closed: the answer to the last mail would be read as that to the next one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use lettre::Address;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};

use super::secrets::Secrets;
use crate::base::error::{Service, UPSTREAM};
use crate::base::fault;
use crate::base::fault::Point;
use crate::process::config::{SmtpSettings, SmtpTls};
use crate::{Error, Result};

/// How long a server may take until it would hear the first command.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one mail may take, with the connection that it may need: less than the outbox's lease.
/// Long, because a server that had taken the mail when we stopped listening gets it twice.
const MAIL_TIMEOUT: Duration = Duration::from_mins(1);

/// How long to wait for a server's goodbye.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// One mail. No part of it is trusted.
#[derive(Debug, Clone)]
pub struct Letter {
    /// What makes it this mail, in letters that a message's id may have. Two of the same name are
    /// one mail sent twice.
    pub name: String,
    /// The recipient's address.
    pub to: String,
    /// The subject, on one line.
    pub subject: String,
    /// The content as plain text.
    pub text: String,
    /// The same content as HTML.
    pub html: String,
}

/// A way out for mails.
pub struct Mailer {
    /// How long one mail may take.
    pub timeout: Duration,
    settings: SmtpSettings,
    secrets: Arc<Secrets>,
    root: Option<Certificate>,
    kept: Mutex<Option<Box<AsyncSmtpConnection>>>,
}

impl Mailer {
    /// Connects at the first mail.
    ///
    /// # Errors
    /// `Setting` where the password or `SMTP_CA_FILE` is missing or malformed.
    pub fn new(settings: SmtpSettings, secrets: Arc<Secrets>) -> Result<Self> {
        if settings.user.is_some() {
            secrets.check("SMTP_PASSWORD", Secrets::smtp_password)?;
        }
        let root = settings.ca_file.as_deref().map(|path| {
            let malformed = |why: String| Error::Setting(format!("SMTP_CA_FILE {path:?}: {why}"));
            let pem = std::fs::read(path).map_err(|error| malformed(error.to_string()))?;
            Certificate::from_pem(&pem).map_err(|error| malformed(error.to_string()))
        });
        Ok(Self {
            timeout: MAIL_TIMEOUT,
            settings,
            secrets,
            root: root.transpose()?,
            kept: Mutex::new(None),
        })
    }

    /// Who reads the operators' digest, if anybody.
    #[must_use]
    pub fn digest_to(&self) -> Option<&Address> {
        self.settings.digest_to.as_ref()
    }

    /// Whether the last mail left a connection to send the next one by. After one that failed:
    /// whether it was the mail's fault or its recipient's, and not the server's.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.kept().is_some()
    }

    /// Sends a mail, and returns its message id. The server has it then; after an error it may have
    /// it.
    ///
    /// # Errors
    /// `Upstream`, permanent where the server refused the recipient or the message for good; a
    /// server that refuses us may be mended.
    pub async fn send(&self, letter: &Letter, now: Timestamp) -> Result<String> {
        let (message, id) = self.message(letter, now)?;
        match tokio::time::timeout(self.timeout, self.exchange(&message)).await {
            Ok(sent) => sent?,
            Err(_) => {
                return Err(Error::unavailable(
                    Service::Mail,
                    format!("no answer within {} s", self.timeout.as_secs()),
                ));
            }
        }
        fault::point(Point::OutboxMailSent);
        Ok(id)
    }

    /// Closes the connection, if there is one: an instance at rest holds none.
    pub async fn rest(&self) {
        let kept = self.kept().take();
        if let Some(mut connection) = kept {
            // A server that says nothing is left all the same.
            let _ = tokio::time::timeout(QUIT_TIMEOUT, connection.quit()).await;
        }
    }

    fn message(&self, letter: &Letter, now: Timestamp) -> Result<(Message, String)> {
        // Not quoted: it goes into logs and flags.
        let to: Address = letter.to.parse().map_err(|_| {
            Error::refused(
                Service::Mail,
                "the recipient's address is none that mail can be sent to",
            )
        })?;
        let id = format!("<{}@{}>", letter.name, self.settings.from.email.domain());
        let message = Message::builder()
            .from(self.settings.from.clone())
            .to(Mailbox::new(None, to))
            .subject(one_line(&letter.subject))
            .date(now.into())
            .message_id(Some(id.clone()))
            // RFC 3834: no out-of-office reply.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .multipart(MultiPart::alternative_plain_html(letter.text.clone(), letter.html.clone()));
        let message = message.map_err(|error| Error::Internal(format!("mail: {error}")))?;
        Ok((message, id))
    }

    async fn exchange(&self, message: &Message) -> Result<()> {
        let [to] = message.envelope().to() else {
            return Err(Error::Internal("a mail has one recipient".to_owned()));
        };
        let mut connection = self.begin(to).await?;
        let refused = match deliver(&mut connection, to, &message.formatted()).await {
            Ok(()) => None,
            // An answer to this mail: the next one may fare better.
            Err(error) if error.status().is_some() && connection.command(Rset).await.is_ok() => {
                Some(error)
            }
            Err(error) => return Err(answer(&error)),
        };
        *self.kept() = Some(connection);
        refused.map_or(Ok(()), |error| Err(answer(&error)))
    }

    /// A connection on which the server expects the recipient.
    async fn begin(&self, to: &Address) -> Result<Box<AsyncSmtpConnection>> {
        let kept = self.kept().take();
        let fresh = kept.is_none();
        let mut connection = match kept {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        let mail = match self.mail(to, &connection) {
            Ok(mail) => mail,
            Err(unfit) => {
                *self.kept() = Some(connection);
                return Err(unfit);
            }
        };
        let Err(refused) = connection.command(mail.clone()).await else { return Ok(connection) };
        if fresh {
            // A sender that is refused is no fault of the mail.
            return Err(away(&refused));
        }
        // One that the server has closed meanwhile is no failure.
        let mut connection = self.connect().await?;
        connection.command(mail).await.map_err(|error| away(&error))?;
        Ok(connection)
    }

    fn mail(&self, to: &Address, connection: &AsyncSmtpConnection) -> Result<Mail> {
        let plain = AsRef::<str>::as_ref(to).is_ascii();
        if !plain && !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            return Err(Error::refused(
                Service::Mail,
                "it takes no address with other than ASCII characters",
            ));
        }
        let parameters = if plain { Vec::new() } else { vec![MailParameter::SmtpUtfEight] };
        Ok(Mail::new(Some(self.settings.from.email.clone()), parameters))
    }

    async fn connect(&self) -> Result<Box<AsyncSmtpConnection>> {
        let Some(user) = &self.settings.user else { return self.open().await };
        let refused = match self.login(user).await? {
            Ok(connection) => return Ok(connection),
            Err(error) if error.is_permanent() && self.secrets.refresh().await? => {
                match self.login(user).await? {
                    Ok(connection) => return Ok(connection),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        // A wrong password is mended by an operator; what waits must outlive that.
        Err(away(&refused))
    }

    /// The connection, or the answer to our password.
    async fn login(
        &self,
        user: &str,
    ) -> Result<std::result::Result<Box<AsyncSmtpConnection>, SmtpError>> {
        let password = self.secrets.needed(Secrets::smtp_password).await?;
        let credentials = Credentials::new(user.to_owned(), password);
        let mut connection = self.open().await?;
        Ok(connection.auth(DEFAULT_MECHANISMS, &credentials).await.map(|_| connection))
    }

    async fn open(&self) -> Result<Box<AsyncSmtpConnection>> {
        let SmtpSettings { host, port, tls, from, .. } = &self.settings;
        let hello = ClientId::Domain(from.email.domain().to_owned());
        let parameters = || {
            let builder = TlsParameters::builder(host.clone());
            let builder = if let Some(root) = &self.root {
                builder.add_root_certificate(root.clone())
            } else {
                builder
            };
            builder.build_rustls().map_err(|error| Error::Setting(format!("SMTP_HOST: {error}")))
        };
        let wrapped = (*tls == SmtpTls::Wrapped).then(parameters).transpose()?;
        let opening = async {
            let mut connection = AsyncSmtpConnection::connect_tokio1(
                (host.as_str(), *port),
                None,
                &hello,
                wrapped,
                None,
            )
            .await
            .map_err(|error| away(&error))?;
            if *tls == SmtpTls::StartTls {
                connection.starttls(parameters()?, &hello).await.map_err(|error| away(&error))?;
            }
            Ok(Box::new(connection))
        };
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, opening).await;
        opened.unwrap_or_else(|_| {
            Err(Error::unavailable(
                Service::Mail,
                format!("no greeting within {} s", CONNECT_TIMEOUT.as_secs()),
            ))
        })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<Box<AsyncSmtpConnection>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn deliver(
    connection: &mut AsyncSmtpConnection,
    to: &Address,
    message: &[u8],
) -> std::result::Result<(), SmtpError> {
    connection.command(Rcpt::new(to.clone(), Vec::new())).await?;
    connection.command(Data).await?;
    connection.message(message).await?;
    Ok(())
}

/// What the server says of a mail: 5xx is for good.
fn answer(error: &SmtpError) -> Error {
    Error::Upstream {
        service: Service::Mail,
        code: UPSTREAM,
        transient: !error.is_permanent(),
        detail: without_addresses(error),
    }
}

/// What the server says of us, or that it does not.
fn away(error: &SmtpError) -> Error {
    Error::unavailable(Service::Mail, without_addresses(error))
}

/// Servers quote the recipient, whose address must not be in a log, a flag or the audit.
fn without_addresses(error: &SmtpError) -> String {
    error
        .to_string()
        .split_whitespace()
        .map(|word| if word.contains('@') { "…" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Without line breaks and other controls, which a header must not have.
fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
