//! Every id on one screen. An id that exists is well formed: it may go into a path, a log and a statement.

use std::fmt;

use crate::{Error, Result};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident: $rule:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes the text where it is well formed.
            ///
            /// # Errors
            /// `Malformed` (`malformed_id`) where it is not.
            pub fn parse(text: &str) -> Result<Self> {
                let rule: fn(&str) -> bool = $rule;
                if rule(text) {
                    return Ok(Self(text.to_owned()));
                }
                let shown: String = text.chars().take(40).collect();
                Err(Error::Malformed { code: "malformed_id", detail: format!("{shown:?} is not a {}", stringify!($name)) })
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

ids! {
    /// A customer company: a slug such as `acme-iot-corp`.
    TenantId: |t| (1..=63).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') && !t.starts_with('-') && !t.ends_with('-');
    /// `SUB-2026-0001`.
    SubscriptionId: |t| t.len() <= 40 && t.strip_prefix("SUB-").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'-'));
    /// `pro`.
    PlanId: |t| (1..=50).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    /// Stripe's `evt_…`.
    StripeEventId: |t| stripe(t, "evt_");
    /// Stripe's `cus_…`.
    StripeCustomerId: |t| stripe(t, "cus_");
    /// Stripe's `cs_test_…` or `cs_live_…`.
    StripeSessionId: |t| stripe(t, "cs_");
    /// Stripe's `sub_…`.
    StripeSubscriptionId: |t| stripe(t, "sub_");
    /// Stripe's `price_…`; prices made from plans of old keep an id of the account's choice.
    StripePriceId: |t| (1..=255).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic());
}

/// Letters, digits and underscores, at most 255 (Stripe's documented maximum): nothing that a path would read otherwise.
fn stripe(text: &str, prefix: &str) -> bool {
    text.len() > prefix.len() && text.len() <= 255 && text.starts_with(prefix) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_could_leave_its_path_is_refused() {
        for bad in ["", "evt_", "cus_1", "evt_1/../customers", "evt_1?x=1", "evt_ä", "evt_1 "] {
            assert!(StripeEventId::parse(bad).is_err(), "{bad}");
        }
        assert!(StripeEventId::parse("evt_1NG8Du2eZvKYlo2CUI79vXWy").is_ok());
        assert!(TenantId::parse("acme-iot-corp").is_ok());
        for bad in ["", "-acme", "acme-", "Acme", "a b", &"a".repeat(64)] {
            assert!(TenantId::parse(bad).is_err(), "{bad}");
        }
    }
}
