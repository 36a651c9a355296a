//! Mails to customers and operators, which are outbox steps (docs/mail.md).
//!
//! A mail's data is read when it is sent: address, names, plan and present state. A mail that is no
//! longer true is skipped.

pub mod model;
pub mod operator;
pub(crate) mod store;
pub mod wording;

use std::time::Duration;

use jiff::Timestamp;

use self::model::{Digest, DigestPart, Mail, MailKind, Notice};
use self::wording::Content;
use crate::Result;
use crate::base::ids::SubscriptionId;
use crate::db::Db;
use crate::outside::smtp::{Letter, Mailer};

/// How long the database may take to read a mail's data.
const READ_BUDGET: Duration = Duration::from_secs(10);

/// What became of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailOutcome {
    /// The mail server has it.
    Sent {
        /// The `Message-ID`.
        message_id: String,
        /// The recipient's address.
        to: String,
        /// Kind and subscription; the digest has none.
        about: Option<(MailKind, SubscriptionId)>,
    },
    /// It was no longer true, and was skipped.
    Overtaken,
    /// There is no address to send it to.
    NoAddress,
}

/// A mail that is ready to be sent.
struct Ready {
    to: String,
    content: Content,
    name: String,
    about: Option<(MailKind, SubscriptionId)>,
}

/// Sends a mail if what it says still holds. The database connection is given back before the mail
/// server is called.
///
/// # Errors
/// `Database`; `Upstream`.
pub async fn send(db: &Db, mailer: &Mailer, mail: &Mail, now: Timestamp) -> Result<MailOutcome> {
    let prepared = async {
        match mail {
            Mail::Digest(digest) => prepare_digest(db, mailer, digest).await,
            Mail::Notice(notice) => prepare_notice(db, notice, now).await,
        }
    };
    let Ready { to, content, name, about } = match db.bounded(READ_BUDGET, prepared).await? {
        Ok(ready) => ready,
        Err(unsent) => return Ok(unsent),
    };
    let (text, html) = content.render()?;
    // A step's key has colons, which a message's id must not have.
    let letter = Letter { name: name.replace(':', "."), to, subject: content.subject, text, html };
    let message_id = mailer.send(&letter, now).await?;
    Ok(MailOutcome::Sent { message_id, to: letter.to, about })
}

async fn prepare_notice(
    db: &Db,
    notice: &Notice,
    now: Timestamp,
) -> Result<std::result::Result<Ready, MailOutcome>> {
    let found = store::find(&db.connection().await?, &notice.subscription_id).await?;
    let Some(about) = found.filter(|about| model::holds(notice, about, now)) else {
        return Ok(Err(MailOutcome::Overtaken));
    };
    let content = wording::notice(notice, &about)?;
    let Some(to) = about.address else { return Ok(Err(MailOutcome::NoAddress)) };
    Ok(Ok(Ready {
        to,
        content,
        name: notice.step().0,
        about: Some((notice.mail, notice.subscription_id.clone())),
    }))
}

async fn prepare_digest(
    db: &Db,
    mailer: &Mailer,
    digest: &Digest,
) -> Result<std::result::Result<Ready, MailOutcome>> {
    let Some(to) = mailer.digest_to() else { return Ok(Err(MailOutcome::NoAddress)) };
    let connection = db.connection().await?;
    let mut parts = Vec::new();
    for part in DigestPart::ALL {
        let (total, lines) = store::part(&connection, part, digest).await?;
        parts.push((part, total, lines));
    }
    Ok(Ok(Ready {
        to: to.to_string(),
        content: wording::digest(digest, &parts),
        name: digest.step().0,
        about: None,
    }))
}
