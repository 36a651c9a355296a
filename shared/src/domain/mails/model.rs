//! The kinds of mail, what the step of one holds (what it is about, and nothing that may have
//! changed when it is sent), and whether it still holds.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::base::ids::SubscriptionId;
use crate::domain::families::subscription::{Status, Subscription, SubscriptionType};
use crate::domain::outbox::model::StepStatus;
use crate::domain::tenants::model::TenantStatus;
use crate::{Error, Result, words};

words! {
    /// What a mail is about (docs/mail.md, "Kinds").
    pub enum MailKind {
        /// The term ends, or renews, in at most 90 days.
        Renewal90 = "RENEWAL_90",
        /// In at most 60.
        Renewal60 = "RENEWAL_60",
        /// In at most 30.
        Renewal30 = "RENEWAL_30",
        /// In at most 14.
        Renewal14 = "RENEWAL_14",
        /// In at most 7.
        Renewal7 = "RENEWAL_7",
        /// In at most one.
        Renewal1 = "RENEWAL_1",
        /// Unpaid, and access ends at `grace_end`.
        Grace = "GRACE",
        /// Access has ended.
        Suspended = "SUSPENDED",
        /// The subscription has ended.
        Expired = "EXPIRED",
        /// What happened in the last day, for the operators.
        Digest = "DIGEST",
    }
}

impl MailKind {
    /// The mails before a term's end, the earliest first.
    pub const RENEWALS: [Self; 6] = [
        Self::Renewal90,
        Self::Renewal60,
        Self::Renewal30,
        Self::Renewal14,
        Self::Renewal7,
        Self::Renewal1,
    ];

    /// How many days before the term's end one of `RENEWALS` is due.
    #[must_use]
    pub fn days(self) -> Option<i64> {
        match self {
            Self::Renewal90 => Some(90),
            Self::Renewal60 => Some(60),
            Self::Renewal30 => Some(30),
            Self::Renewal14 => Some(14),
            Self::Renewal7 => Some(7),
            Self::Renewal1 => Some(1),
            Self::Grace | Self::Suspended | Self::Expired | Self::Digest => None,
        }
    }
}

/// A mail to a customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Any kind but DIGEST.
    pub mail: MailKind,
    /// The root of the family.
    pub subscription_id: SubscriptionId,
    /// The `term_end` that RENEWAL_* and EXPIRED are about, the `grace_end` that GRACE and
    /// SUSPENDED are about: if it has changed since, the mail is skipped.
    pub at: Timestamp,
}

impl Notice {
    /// The step's `dedup_key`, by which it is inserted once, and its payload.
    #[must_use]
    pub fn step(&self) -> (String, Value) {
        (format!("mail:{}:{}:{}", self.mail.as_str(), self.subscription_id, self.at), json!(self))
    }
}

/// The mail to the operators, of no tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// From this instant on.
    pub from: Timestamp,
    /// Before this instant.
    pub to: Timestamp,
}

impl Digest {
    /// The same for a digest: one for each `to`.
    #[must_use]
    pub fn step(&self) -> (String, Value) {
        (
            format!("mail:DIGEST:{}", self.to),
            json!({"mail": MailKind::Digest, "from": self.from, "to": self.to}),
        )
    }
}

/// What a `mail` step sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mail {
    /// To a customer.
    Notice(Notice),
    /// To the operators.
    Digest(Digest),
}

impl Mail {
    /// Reads the payload of a step.
    ///
    /// # Errors
    /// `Internal` where it is not that of a mail.
    pub fn decode(payload: &Value) -> Result<Self> {
        fn read<T: DeserializeOwned>(payload: &Value) -> Result<T> {
            T::deserialize(payload).map_err(|error| Error::Internal(format!("payload: {error}")))
        }
        match payload["mail"].as_str() {
            Some(kind) if kind == MailKind::Digest.as_str() => read(payload).map(Self::Digest),
            _ => read(payload).map(Self::Notice),
        }
    }
}

/// A mail about a subscription, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MailRow {
    /// The outbox step that sends it: what is retried or dismissed.
    pub step_id: i64,
    /// What it is about.
    pub mail: MailKind,
    /// The root of the family.
    pub subscription_id: SubscriptionId,
    /// The `term_end` or `grace_end` that it is about.
    pub at: Timestamp,
    /// How far it is; one that was skipped is `done`.
    pub status: StepStatus,
    /// When the mail server took it.
    pub sent_at: Option<Timestamp>,
    /// The address that it was sent to.
    pub to: Option<String>,
    /// Its `Message-ID`.
    pub message_id: Option<String>,
    /// Why it was not sent: `overtaken`, as it was no longer true; or `no_address`.
    pub skipped: Option<String>,
    /// Attempts so far.
    pub attempts: i32,
    /// When a pending one is tried next.
    pub next_attempt_at: Option<Timestamp>,
    /// The error of the last attempt that failed.
    pub last_error: Option<String>,
    /// When it was found to be due.
    pub created_at: Timestamp,
}

/// The present data that a customer's mail is made of.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The root of the family.
    pub root: Subscription,
    /// The name of the company.
    pub company: String,
    /// Whether it is still a tenant.
    pub tenant_status: TenantStatus,
    /// Where its mail goes: `billing_email`, else `contact_email`.
    pub address: Option<String>,
    /// The plan's name.
    pub plan: Option<String>,
    /// ADDONs that have not expired.
    pub addons: Vec<Addon>,
    /// Whether the company has a live MAIN.
    pub has_main: bool,
}

/// A line of its root's mail.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "the columns of the same names")]
pub struct Addon {
    pub subscription_id: SubscriptionId,
    pub term_end: Timestamp,
    pub device_limit: i32,
    pub slots: Vec<Slots>,
}

/// Slots that an ADDON brings.
#[derive(Debug, Clone, Deserialize)]
pub struct Slots {
    /// The tier's name.
    pub tier: String,
    /// How many slots.
    pub slot_limit: i32,
}

/// Whether a mail is still true. One that announces an instant that has passed is not, and who pays
/// for a MAIN is told nothing about a trial.
#[must_use]
pub fn holds(notice: &Notice, about: &Subject, now: Timestamp) -> bool {
    let root = &about.root;
    let ahead = notice.at > now;
    let is_past_trial = root.subscription_type == SubscriptionType::Trial && about.has_main;
    about.tenant_status == TenantStatus::Active
        && !is_past_trial
        && match notice.mail {
            MailKind::Renewal90
            | MailKind::Renewal60
            | MailKind::Renewal30
            | MailKind::Renewal14
            | MailKind::Renewal7
            | MailKind::Renewal1 => {
                matches!(root.status, Status::Active | Status::Trial)
                    && root.term_end == notice.at
                    && ahead
            }
            MailKind::Grace => {
                root.status == Status::Grace && root.grace_end == Some(notice.at) && ahead
            }
            MailKind::Suspended => root.status == Status::Suspended,
            MailKind::Expired => root.status == Status::Expired && root.term_end == notice.at,
            MailKind::Digest => false,
        }
}

/// What the digest counts, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestPart {
    /// Open flags.
    Flags,
    /// Events that failed and were not replayed or dismissed.
    FailedEvents,
    /// Steps that were given up, or have been due for an hour.
    StuckSteps,
    /// Subscriptions that went into grace.
    Graces,
    /// Subscriptions that were suspended.
    Suspensions,
    /// Counts that were corrected, and what differed from Stripe.
    Corrections,
}

impl DigestPart {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Flags,
        Self::FailedEvents,
        Self::StuckSteps,
        Self::Graces,
        Self::Suspensions,
        Self::Corrections,
    ];

    /// Its heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Flags => "Open flags",
            Self::FailedEvents => "Failed events",
            Self::StuckSteps => "Stuck steps",
            Self::Graces => "New graces",
            Self::Suspensions => "New suspensions",
            Self::Corrections => "Corrections",
        }
    }

    /// Whether an operator must act on it.
    #[must_use]
    pub fn needs_an_operator(self) -> bool {
        matches!(self, Self::Flags | Self::FailedEvents | Self::StuckSteps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_inserted_once_for_each_subscription_kind_and_instant() {
        let at: Timestamp = "2027-01-01T00:00:00Z".parse().expect("an instant");
        let notice = Notice {
            mail: MailKind::Renewal30,
            subscription_id: SubscriptionId::parse("SUB-2026-0001").expect("an id"),
            at,
        };
        let payload = json!({"mail": "RENEWAL_30", "subscription_id": "SUB-2026-0001",
            "at": "2027-01-01T00:00:00Z"});
        assert_eq!(
            notice.step(),
            ("mail:RENEWAL_30:SUB-2026-0001:2027-01-01T00:00:00Z".to_owned(), payload)
        );
        let digest = Digest { from: "2026-12-31T00:00:00Z".parse().expect("an instant"), to: at };
        let payload =
            json!({"mail": "DIGEST", "from": "2026-12-31T00:00:00Z", "to": "2027-01-01T00:00:00Z"});
        assert_eq!(digest.step(), ("mail:DIGEST:2027-01-01T00:00:00Z".to_owned(), payload));
    }
}
