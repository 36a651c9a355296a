//! Percentages.

use deserr::{Deserr, IntoValue, Value, ValuePointerRef};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use super::{Described, Faults, read_id, text};
use crate::{Error, Result};

const PATTERN: &str = r"^(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)$";

/// A percentage from 0 to 100 with two decimals, such as `99.95`. It is text in JSON, because a
/// binary fraction is never 99.95, and whole hundredths everywhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percentage(i32);

impl Percentage {
    /// From hundredths.
    ///
    /// # Errors
    /// `Internal`: the database holds what its CHECK does not allow.
    pub fn new(hundredths: i32) -> Result<Self> {
        let fits = (0..=10_000).contains(&hundredths);
        fits.then_some(Self(hundredths))
            .ok_or_else(|| Error::Internal(format!("{hundredths} hundredths are no percentage")))
    }

    /// In hundredths.
    #[must_use]
    pub fn hundredths(self) -> i32 {
        self.0
    }

    /// From `99.95`, `99.9` or `99`.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(typed: &str) -> Result<Self> {
        let malformed = || Error::malformed("malformed_percentage", typed);
        let (whole, decimals) = typed.split_once('.').unwrap_or((typed, "00"));
        let digits = |part: &str, most: usize| {
            (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        let well_formed = digits(whole, if typed.starts_with("100") { 3 } else { 2 });
        if !well_formed || !digits(decimals, 2) {
            return Err(malformed());
        }
        let hundredths: i32 = format!("{whole}{decimals:0<2}").parse().map_err(|_| malformed())?;
        Self::new(hundredths).map_err(|_| malformed())
    }
}

impl std::fmt::Display for Percentage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl Deserr<Faults> for Percentage {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> std::result::Result<Self, Faults> {
        read_id(value, location, Self::parse, PATTERN)
    }
}

impl Described for Percentage {
    fn schema() -> RefOr<Schema> {
        text().pattern(Some(PATTERN)).into()
    }
}

impl utoipa::PartialSchema for Percentage {
    fn schema() -> RefOr<Schema> {
        <Self as Described>::schema()
    }
}

impl utoipa::ToSchema for Percentage {}

impl Serialize for Percentage {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percentage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let typed = String::deserialize(deserializer)?;
        Self::parse(&typed).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Percentage;

    #[test]
    fn a_percentage_has_two_decimals_and_is_at_most_a_hundred() {
        for (typed, shown) in [
            ("99.95", "99.95"),
            ("99.9", "99.90"),
            ("0", "0.00"),
            ("100", "100.00"),
            ("7.05", "7.05"),
        ] {
            let read = Percentage::parse(typed).map(|read| read.to_string());
            assert_eq!(read.ok().as_deref(), Some(shown), "{typed}");
        }
        for typed in ["", ".", "100.01", "101", "99.", ".5", "99.955", "-1", "1e1", "1000", "9,5"] {
            assert!(Percentage::parse(typed).is_err(), "{typed}");
        }
    }
}
