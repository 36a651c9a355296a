//! The types of a request's fields: each reads itself, names every fault, and describes itself for
//! OpenAPI (docs/api.md, "Bodies").
//!
//! A value of these types is valid; nothing downstream checks again. `request!` puts them together.

mod email;
mod json;
mod limits;
mod numbers;
mod percentage;
mod requests;
mod text;
mod urls;

use std::fmt::Display;
use std::ops::ControlFlow;

use deserr::{
    DeserializeError, Deserr, ErrorKind, IntoValue, MergeWithError, Value, ValueKind,
    ValuePointerRef, take_cf_content,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, Schema, SchemaFormat};

pub use self::email::Email;
pub use self::json::JsonObject;
pub use self::limits::{Limits, Named, NamedCounts, NamedLimit, NamedLimits};
pub use self::numbers::{Cents, Count, Int, SortOrder, TierId};
pub use self::percentage::Percentage;
pub use self::requests::*;
pub use self::text::{Description, Name, Note, Text, TierName, filled, text};
pub(crate) use self::urls::is_on;
pub use self::urls::{ReturnUrl, check_urls};
use super::error::FieldFault;
use crate::{Error, Result};

/// All faults of a request.
#[derive(Debug, Default)]
pub struct Faults(Vec<FieldFault>);

impl From<Faults> for Error {
    fn from(faults: Faults) -> Self {
        Self::Invalid(faults.0)
    }
}

impl Faults {
    fn add(
        earlier: Option<Self>,
        location: ValuePointerRef<'_>,
        key: Option<&str>,
        message: String,
    ) -> Self {
        let mut faults = earlier.unwrap_or_default();
        let mut field = path(location);
        match key {
            Some(key) if field.is_empty() => key.clone_into(&mut field),
            Some(key) => field = format!("{field}.{key}"),
            None if field.is_empty() => "body".clone_into(&mut field),
            None => {}
        }
        faults.0.push(FieldFault { field, message });
        faults
    }

    fn one(location: ValuePointerRef<'_>, message: impl Into<String>) -> Self {
        Self::add(None, location, None, message.into())
    }
}

fn path(location: ValuePointerRef<'_>) -> String {
    match location {
        ValuePointerRef::Origin => String::new(),
        ValuePointerRef::Key { key, prev } => match path(*prev) {
            before if before.is_empty() => key.to_owned(),
            before => format!("{before}.{key}"),
        },
        ValuePointerRef::Index { index, prev } => format!("{}[{index}]", path(*prev)),
    }
}

impl MergeWithError<Self> for Faults {
    fn merge(
        earlier: Option<Self>,
        other: Self,
        _: ValuePointerRef<'_>,
    ) -> ControlFlow<Self, Self> {
        let mut faults = earlier.unwrap_or_default();
        faults.0.extend(other.0);
        ControlFlow::Continue(faults)
    }
}

impl DeserializeError for Faults {
    fn error<V: IntoValue>(
        earlier: Option<Self>,
        error: ErrorKind<'_, V>,
        location: ValuePointerRef<'_>,
    ) -> ControlFlow<Self, Self> {
        let (key, message) = match error {
            ErrorKind::IncorrectValueKind { actual, accepted } => {
                (None, wrong_kind(actual.kind(), accepted))
            }
            ErrorKind::MissingField { field } => (Some(field), "is required".to_owned()),
            ErrorKind::UnknownKey { key, .. } => {
                (Some(key), "is not a field of this request".to_owned())
            }
            ErrorKind::UnknownValue { accepted, .. } => {
                (None, format!("must be one of {}", accepted.join(", ")))
            }
            ErrorKind::BadSequenceLen { expected, .. } => {
                (None, format!("must have {expected} items"))
            }
            ErrorKind::Unexpected { msg } => (None, msg),
        };
        ControlFlow::Continue(Self::add(earlier, location, key, message))
    }
}

fn wrong_kind(actual: ValueKind, accepted: &[ValueKind]) -> String {
    let name = |kind: ValueKind| match kind {
        ValueKind::Null => "null",
        ValueKind::Boolean => "true or false",
        ValueKind::Integer | ValueKind::NegativeInteger => "a whole number",
        ValueKind::Float => "a number",
        ValueKind::String => "text",
        ValueKind::Sequence => "a list",
        ValueKind::Map => "an object",
    };
    let mut wanted: Vec<&str> = accepted.iter().copied().map(name).collect();
    wanted.dedup();
    format!("must be {}, not {}", wanted.join(" or "), name(actual))
}

fn refuse<V: IntoValue>(
    actual: Value<V>,
    accepted: &[ValueKind],
    location: ValuePointerRef<'_>,
) -> Faults {
    take_cf_content(Faults::error(
        None,
        ErrorKind::IncorrectValueKind { actual, accepted },
        location,
    ))
}

/// An instant with an offset, kept in UTC to the microsecond, from the year 2000 to 2199.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DateTime(Timestamp);

impl DateTime {
    /// The instant.
    #[must_use]
    pub fn get(self) -> Timestamp {
        self.0
    }
}

impl Deserr<Faults> for DateTime {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> std::result::Result<Self, Faults> {
        let Value::String(text) = value else {
            return Err(refuse(value, &[ValueKind::String], location));
        };
        let fault = |message: &str| Faults::one(location, message);
        let at: Timestamp = text
            .parse()
            .map_err(|_| fault("must be a time with an offset, such as 2026-01-31T09:30:00Z"))?;
        if !(2000..2200).contains(&at.to_zoned(jiff::tz::TimeZone::UTC).year()) {
            return Err(fault("must be in the years 2000 to 2199"));
        }
        Ok(Self(at - SignedDuration::from_nanos(i64::from(at.subsec_nanosecond() % 1_000))))
    }
}

impl Described for DateTime {
    fn schema() -> RefOr<Schema> {
        // Example and format together: RFC 3339 in one field is what tools understand.
        text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).into()
    }
}

/// A list of at most so many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T, const MAX: usize>(pub Vec<T>);

impl<T: Deserr<Faults>, const MAX: usize> Deserr<Faults> for List<T, MAX> {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> std::result::Result<Self, Faults> {
        match value {
            Value::Sequence(items) if deserr::Sequence::len(&items) > MAX => {
                Err(Faults::one(location, format!("must have at most {MAX} items")))
            }
            value => Vec::deserialize_from_value(value, location).map(Self),
        }
    }
}

impl<T: Described, const MAX: usize> Described for List<T, MAX> {
    fn schema() -> RefOr<Schema> {
        ArrayBuilder::new().items(T::schema()).max_items(Some(MAX)).into()
    }
}

/// A field of an update: absent keeps what is; a nullable one is a `Change<Option<_>>`, whose
/// `null` clears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    /// Not named.
    Keep,
    /// Named, with this.
    Set(T),
}

impl<T> Change<T> {
    /// Whether the request names it.
    #[must_use]
    pub fn is_set(&self) -> bool {
        matches!(self, Self::Set(_))
    }

    /// Puts the new value in place of the old one.
    pub fn apply<U>(self, to: &mut U, convert: impl FnOnce(T) -> U) {
        if let Self::Set(value) = self {
            *to = convert(value);
        }
    }
}

impl<T: Deserr<Faults>> Deserr<Faults> for Change<T> {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> std::result::Result<Self, Faults> {
        T::deserialize_from_value(value, location).map(Self::Set)
    }
}

impl<T: Described> Described for Change<T> {
    fn schema() -> RefOr<Schema> {
        T::schema()
    }
}

/// A number or a truth value in a query string, where everything is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<T>(pub T);

impl<T: Deserr<Faults>> Deserr<Faults> for Param<T> {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> std::result::Result<Self, Faults> {
        let Value::String(text) = value else {
            return Err(refuse(value, &[ValueKind::String], location));
        };
        // Text that is neither goes on as it is: the type then says what it wants.
        let scalar = text
            .parse::<i64>()
            .map(Json::from)
            .or_else(|_| text.parse::<bool>().map(Json::from))
            .unwrap_or(Json::String(text));
        T::deserialize_from_value(scalar.into_value(), location).map(Self)
    }
}

impl<T: Described> Described for Param<T> {
    fn schema() -> RefOr<Schema> {
        T::schema()
    }
}

/// Makes text types of `crate::ids` fields: well formed or refused, with the type's pattern.
pub(crate) fn read_id<T, V: IntoValue>(
    value: Value<V>,
    location: ValuePointerRef<'_>,
    parse: impl FnOnce(&str) -> Result<T>,
    pattern: impl Display,
) -> std::result::Result<T, Faults> {
    match value {
        Value::String(text) => {
            parse(&text).map_err(|_| Faults::one(location, format!("must match {pattern}")))
        }
        other => Err(refuse(other, &[ValueKind::String], location)),
    }
}
