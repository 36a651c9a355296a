//! Mail addresses.

use deserr::{
    DeserializeError as _, Deserr, ErrorKind, IntoValue, Value, ValuePointerRef, take_cf_content,
};
use utoipa::openapi::{RefOr, Schema};

use super::{Described, Faults};
use crate::base::fields;

/// A mail address in lower case, as Keycloak keeps it. Only a mail can show whether
/// anyone reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    const MAX: usize = 254;
    /// As `parse` has it.
    const PATTERN: &str = r"^[^@\s\x00-\x1f\x7f-\x9f]+@[^@\s\x00-\x1f\x7f-\x9f]+$";

    /// Takes the text where it has a part before its one @ and one after it, no blank and no
    /// control character.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (local, domain) = text.split_once('@')?;
        let part = |part: &str| {
            !part.is_empty()
                && !part.chars().any(|c| c == '@' || c.is_whitespace() || c.is_control())
        };
        (text.chars().count() <= Self::MAX && part(local) && part(domain))
            .then(|| Self(text.to_lowercase()))
    }

    /// The text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Deserr<Faults> for Email {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> std::result::Result<Self, Faults> {
        let malformed = || ErrorKind::Unexpected {
            msg: format!("must be a mail address of at most {} characters", Self::MAX),
        };
        let fault = |error: ErrorKind<'_, V>| take_cf_content(Faults::error(None, error, location));
        match value {
            Value::String(text) => Self::parse(&text).ok_or_else(|| fault(malformed())),
            actual => Err(fault(ErrorKind::IncorrectValueKind {
                actual,
                accepted: &[deserr::ValueKind::String],
            })),
        }
    }
}

impl Described for Email {
    fn schema() -> RefOr<Schema> {
        fields::text().pattern(Some(Self::PATTERN)).max_length(Some(Self::MAX)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_at_and_something_on_both_sides() {
        for good in ["jane@acme.example", "JANE@ACME.EXAMPLE", "o'brien+1@a", "用户@例子.example"]
        {
            assert_eq!(Email::parse(good).map(Email::into_string), Some(good.to_lowercase()));
        }
        let long = format!("{}@acme.example", "x".repeat(242));
        for bad in [
            "",
            "@",
            "jane",
            "@acme",
            "jane@",
            "a@b@c",
            "a b@c",
            " a@b",
            "a@b\n",
            "a@b\u{0}",
            "a\u{a0}@b",
            "a\u{85}@b",
            &long,
        ] {
            assert_eq!(Email::parse(bad), None, "{bad:?}");
        }
        assert!(Email::parse(&long[1..]).is_some());
    }
}
