//! Every id on one screen. An id that exists is well formed: it may go into a path, a log and a
//! statement.

use std::fmt;

use utoipa::openapi::{RefOr, Schema};

use super::fields;
use super::fields::{Described, Faults};
use crate::{Error, Result};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $pattern:literal: $rule:expr;)+) => {$(
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
                Err(Error::malformed("malformed_id",
                    format!("{shown:?} is not a {}", stringify!($name))))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl deserr::Deserr<Faults> for $name {
            fn deserialize_from_value<V: deserr::IntoValue>(value: deserr::Value<V>,
                location: deserr::ValuePointerRef<'_>) -> std::result::Result<Self, Faults> {
                fields::read_id(value, location, Self::parse, $pattern)
            }
        }

        impl Described for $name {
            fn schema() -> RefOr<Schema> {
                fields::text().pattern(Some($pattern)).into()
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                <Self as Described>::schema()
            }
        }

        impl utoipa::ToSchema for $name {}

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok,
            S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> std::result::Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }

        super::sql::text_column!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

ids! {
    /// A customer company: a slug such as `acme-iot-corp`.
    TenantId,
    "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$": |t| (1..=63).contains(&t.len())
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !t.starts_with('-') && !t.ends_with('-');
    /// `SUB-2026-0001`.
    SubscriptionId,
    "^SUB-[0-9-]{1,36}$": |t| t.len() <= 40 && t.strip_prefix("SUB-").is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit() || b == b'-')
    });
    /// `pro`.
    PlanId,
    "^[a-z0-9_-]{1,50}$": |t| (1..=50).contains(&t.len())
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
    /// A device, as its tenant names it: `DEV-001`. Another tenant may have the same.
    DeviceId,
    "^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$": |t| (1..=100).contains(&t.len())
        && t.starts_with(|c: char| c.is_ascii_alphanumeric())
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
    /// A customer's order of slots: `ord_` and 32 hexadecimal digits.
    AddonOrderId,
    "^ord_[0-9a-f]{32}$": |t| t.strip_prefix("ord_").is_some_and(|rest| {
        rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    });
    /// A user: Keycloak's UUID, and nothing else that a path would read otherwise.
    UserId,
    "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$": |t| t.len() == 36
        && t.bytes().enumerate().all(|(index, b)| {
            if matches!(index, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() }
        });
    /// Stripe's `evt_…`.
    StripeEventId, "^evt_[A-Za-z0-9_]{1,251}$": |t| stripe(t, "evt_");
    /// Stripe's `cus_…`.
    StripeCustomerId, "^cus_[A-Za-z0-9_]{1,251}$": |t| stripe(t, "cus_");
    /// Stripe's `cs_test_…` or `cs_live_…`.
    StripeSessionId, "^cs_[A-Za-z0-9_]{1,252}$": |t| stripe(t, "cs_");
    /// Stripe's `sub_…`.
    StripeSubscriptionId, "^sub_[A-Za-z0-9_]{1,251}$": |t| stripe(t, "sub_");
    /// Stripe's `ch_…`, or `py_…` of other payments than by card.
    StripeChargeId, "^(ch|py)_[A-Za-z0-9_]{1,251}$": |t| stripe(t, "ch_") || stripe(t, "py_");
    /// Stripe's `price_…`; prices made from plans of old keep an id of the account's choice.
    StripePriceId,
    "^[!-~]{1,255}$": |t| (1..=255).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic());
}

/// Letters, digits and underscores, at most 255 (Stripe's documented maximum): nothing that a path
/// would read otherwise.
fn stripe(text: &str, prefix: &str) -> bool {
    text.len() > prefix.len()
        && text.len() <= 255
        && text.starts_with(prefix)
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
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

    #[test]
    fn a_users_id_is_a_uuid() {
        assert!(UserId::parse("00000000-0000-4000-8000-00000000000f").is_ok());
        let bad = [
            "",
            "me",
            "00000000-0000-4000-8000-00000000000",
            "00000000x0000-4000-8000-000000000000",
            "../../../../users/00000000-0000-4000",
        ];
        for bad in bad
            .into_iter()
            .chain(["g0000000-0000-4000-8000-000000000000", "00000000-0000-4000-8000-0000000000é"])
        {
            assert!(UserId::parse(bad).is_err(), "{bad}");
        }
    }
}
