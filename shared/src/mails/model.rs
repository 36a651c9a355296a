//! The kinds of mail, and what the step of one holds: what it is about, and nothing that may have changed when it is sent.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ids::SubscriptionId;
use crate::words;

words! {
    /// What a mail tells (docs/mail.md, "Kinds").
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
        /// It is over.
        Expired = "EXPIRED",
        /// What the operators should know of the last day.
        Digest = "DIGEST",
    }
}

impl MailKind {
    /// The mails before a term's end, the earliest first.
    pub const RENEWALS: [Self; 6] = [Self::Renewal90, Self::Renewal60, Self::Renewal30, Self::Renewal14, Self::Renewal7, Self::Renewal1];

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
    /// The `term_end` that RENEWAL_* and EXPIRED are about, the `grace_end` that GRACE and SUSPENDED are: with another, the mail is overtaken.
    pub at: Timestamp,
}

impl Notice {
    /// The step's `dedup_key`, by which it is left once, and its payload.
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
    /// As of a notice: one for each `to`.
    #[must_use]
    pub fn step(&self) -> (String, Value) {
        (format!("mail:DIGEST:{}", self.to), json!({"mail": MailKind::Digest, "from": self.from, "to": self.to}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_left_once_for_each_subscription_kind_and_instant() {
        let at: Timestamp = "2027-01-01T00:00:00Z".parse().expect("an instant");
        let notice = Notice { mail: MailKind::Renewal30, subscription_id: SubscriptionId::parse("SUB-2026-0001").expect("an id"), at };
        let payload = json!({"mail": "RENEWAL_30", "subscription_id": "SUB-2026-0001", "at": "2027-01-01T00:00:00Z"});
        assert_eq!(notice.step(), ("mail:RENEWAL_30:SUB-2026-0001:2027-01-01T00:00:00Z".to_owned(), payload));
        let digest = Digest { from: "2026-12-31T00:00:00Z".parse().expect("an instant"), to: at };
        let payload = json!({"mail": "DIGEST", "from": "2026-12-31T00:00:00Z", "to": "2027-01-01T00:00:00Z"});
        assert_eq!(digest.step(), ("mail:DIGEST:2027-01-01T00:00:00Z".to_owned(), payload));
    }
}
