//! Every id on one screen. A value of one of these types is well formed: it may go into a path, a
//! log and a statement.

mod rule;

use std::fmt;

use utoipa::openapi::{RefOr, Schema};

use self::rule::Part::{Chars, OneOf, Slug, Text, Times};
use self::rule::Rule;
use super::fields;
use super::fields::{Described, Faults};
use crate::{Error, Result};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident: [$($part:expr),+ $(,)?];)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            const RULE: Rule = Rule(&[$($part),+]);

            /// The id, if the text is well formed.
            ///
            /// # Errors
            /// `Malformed` (`malformed_id`) where it is not.
            pub fn parse(text: &str) -> Result<Self> {
                if Self::RULE.accepts(text) {
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
                fields::read_id(value, location, Self::parse, Self::RULE)
            }
        }

        impl Described for $name {
            fn schema() -> RefOr<Schema> {
                fields::text().pattern(Some(Self::RULE.to_string())).into()
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

        crate::base::sql::text_column!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+

        #[cfg(test)]
        const RULES: &[Rule] = &[$($name::RULE),+];
    };
}

/// What an id of Stripe's has after its prefix: nothing that a path would read otherwise.
const STRIPE: &str = "A-Za-z0-9_";

// Stripe documents at most 255 characters, prefix included.
ids! {
    /// A customer company: a slug such as `acme-iot-corp`.
    TenantId: [Slug("a-z0-9", "a-z0-9-", 63)];
    /// `SUB-2026-0001`.
    SubscriptionId: [Text("SUB-"), Chars("0-9-", 1, 36)];
    /// `pro`.
    PlanId: [Chars("a-z0-9_-", 1, 50)];
    /// A device, as its tenant names it: `DEV-001`. Another tenant may have the same.
    DeviceId: [Chars("A-Za-z0-9", 1, 1), Chars("A-Za-z0-9._:-", 0, 99)];
    /// A customer's order of slots: `ord_` and 32 hexadecimal digits.
    AddonOrderId: [Text("ord_"), Chars("0-9a-f", 32, 32)];
    /// A user: Keycloak's UUID, and nothing else that a path would read otherwise.
    UserId: [
        Chars("0-9A-Fa-f", 8, 8),
        Times(3, &[Text("-"), Chars("0-9A-Fa-f", 4, 4)]),
        Text("-"),
        Chars("0-9A-Fa-f", 12, 12),
    ];
    /// Stripe's `evt_…`.
    StripeEventId: [Text("evt_"), Chars(STRIPE, 1, 251)];
    /// Stripe's `cus_…`.
    StripeCustomerId: [Text("cus_"), Chars(STRIPE, 1, 251)];
    /// Stripe's `cs_test_…` or `cs_live_…`.
    StripeSessionId: [Text("cs_"), Chars(STRIPE, 1, 252)];
    /// Stripe's `sub_…`.
    StripeSubscriptionId: [Text("sub_"), Chars(STRIPE, 1, 251)];
    /// Stripe's `ch_…`, or `py_…` of payments other than by card.
    StripeChargeId: [OneOf(&["ch", "py"]), Text("_"), Chars(STRIPE, 1, 252)];
    /// Stripe's `price_…`; prices made from plans of old keep an id of the account's choice.
    StripePriceId: [Chars("!-~", 1, 255)];
    /// A currency's code, in lower case as Stripe has it: `usd`.
    Currency: [Chars("a-z", 3, 3)];
}

impl Currency {
    /// What everything was priced in before prices had a currency.
    #[must_use]
    pub fn usd() -> Self {
        Self("usd".to_owned())
    }
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
