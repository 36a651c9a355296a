//! The types of a request's fields: each reads itself, names every fault, and describes itself for
//! OpenAPI (docs/api.md, "Bodies").
//!
//! A value of these types is valid; nothing downstream checks again. `request!` puts them together.

mod requests;

pub use requests::*;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use deserr::{
    DeserializeError, Deserr, ErrorKind, IntoValue, MergeWithError, Value, ValueKind,
    ValuePointerRef, take_cf_content,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat,
    SchemaType, Type,
};

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

/// Text of this many characters, none of them a control character other than a line break
/// (`PostgreSQL` has no room for NUL).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<const MIN: usize, const MAX: usize>(String);

/// What something is called.
pub type Name = Text<1, 100>;
/// A sentence or two.
pub type Description = Text<0, 1000>;
/// A reason or remark for the audit.
pub type Note = Text<1, 1000>;

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }

    /// Takes what is short enough and clean.
    fn check(text: String) -> std::result::Result<Self, String> {
        let length = text.chars().count();
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err("must not contain control characters".to_owned());
        }
        if length > MAX {
            return Err(format!("must have at most {MAX} characters, not {length}"));
        }
        if MIN > 0 && text.trim().is_empty() {
            return Err("must not be empty".to_owned());
        }
        Ok(Self(text))
    }
}

impl<const MAX: usize> Default for Text<0, MAX> {
    fn default() -> Self {
        Self(String::new())
    }
}

impl<const MIN: usize, const MAX: usize> Deserr<Faults> for Text<MIN, MAX> {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> std::result::Result<Self, Faults> {
        match value {
            Value::String(text) => {
                Self::check(text).map_err(|message| Faults::one(location, message))
            }
            other => Err(refuse(other, &[ValueKind::String], location)),
        }
    }
}

impl<const MIN: usize, const MAX: usize> Described for Text<MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        // As `check` has it: no control characters, and more than blanks where it must not be
        // empty.
        const CLEAN: &str = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*";
        let pattern = if MIN > 0 {
            format!(r"^{CLEAN}[^\s\x00-\x1f\x7f-\x9f]{CLEAN}$")
        } else {
            format!("^{CLEAN}$")
        };
        text()
            .min_length((MIN > 0).then_some(MIN))
            .max_length(Some(MAX))
            .pattern(Some(pattern))
            .into()
    }
}

/// The beginning of a schema for text.
#[must_use]
pub fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String))
}

/// A whole number within bounds, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Int<const MIN: i64, const MAX: i64>(i64);

/// How many of something: devices, slots.
pub type Count = Int<0, 1_000_000_000>;
/// An amount of money in cents.
pub type Cents = Int<0, 99_999_999_999>;
/// Where something stands in a list.
pub type SortOrder = Int<-1_000_000, 1_000_000>;
/// A device tier's number.
pub type TierId = Int<1, 2_147_483_647>;

impl<const MIN: i64, const MAX: i64> Int<MIN, MAX> {
    /// Zero, where the bounds have it.
    pub const ZERO: Self = {
        assert!(MIN <= 0 && MAX >= 0);
        Self(0)
    };

    /// One, where the bounds have it.
    pub const ONE: Self = {
        assert!(MIN <= 1 && MAX >= 1);
        Self(1)
    };

    /// The number where it is within bounds.
    #[must_use]
    pub const fn new(number: i64) -> Option<Self> {
        if number >= MIN && number <= MAX { Some(Self(number)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The number as `PostgreSQL`'s `integer`, whose bounds those of this type must not pass.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "checked when compiled")]
    pub const fn get_i32(self) -> i32 {
        const { assert!(MIN >= i32::MIN as i64 && MAX <= i32::MAX as i64) };
        self.0 as i32
    }
}

impl<const MIN: i64, const MAX: i64> Deserr<Faults> for Int<MIN, MAX> {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> std::result::Result<Self, Faults> {
        let number = match value {
            Value::Integer(number) => i64::try_from(number).ok(),
            Value::NegativeInteger(number) => Some(number),
            // JSON has one kind of number: 48.0 is whole.
            Value::Float(number) if number.fract() == 0.0 => format!("{number:.0}").parse().ok(),
            other => return Err(refuse(other, &[ValueKind::Integer], location)),
        };
        number
            .and_then(Self::new)
            .ok_or_else(|| Faults::one(location, format!("must be from {MIN} to {MAX}")))
    }
}

impl<const MIN: i64, const MAX: i64> Described for Int<MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Int64);
        ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Integer))
            .format(Some(format))
            .minimum(Some(MIN))
            .maximum(Some(MAX))
            .into()
    }
}

/// An instant with an offset, kept in UTC to the microsecond, from the year 2000 to 2199.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Timestamp);

impl Instant {
    /// The instant.
    #[must_use]
    pub fn get(self) -> Timestamp {
        self.0
    }
}

impl Deserr<Faults> for Instant {
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

impl Described for Instant {
    fn schema() -> RefOr<Schema> {
        // Example and format together: RFC 3339 in one field is what tools understand.
        text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).into()
    }
}

/// A JSON object of the caller's own, at most 16 KiB long, without NUL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JsonObject(serde_json::Map<String, Json>);

impl JsonObject {
    const MAX_BYTES: usize = 16 * 1024;

    /// The object.
    #[must_use]
    pub fn into_map(self) -> serde_json::Map<String, Json> {
        self.0
    }
}

impl Deserr<Faults> for JsonObject {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> std::result::Result<Self, Faults> {
        if !matches!(value, Value::Map(_)) {
            return Err(refuse(value, &[ValueKind::Map], location));
        }
        let Json::Object(object) =
            <Json as Deserr<Faults>>::deserialize_from_value(value, location)?
        else {
            return Err(Faults::one(location, "must be an object"));
        };
        let text = Json::Object(object.clone()).to_string();
        if text.len() > Self::MAX_BYTES {
            return Err(Faults::one(
                location,
                format!("must be at most {} bytes as JSON, not {}", Self::MAX_BYTES, text.len()),
            ));
        }
        if object.iter().any(|(name, value)| name.contains('\0') || has_nul(value)) {
            return Err(Faults::one(location, "must not contain control characters"));
        }
        Ok(Self(object))
    }
}

fn has_nul(value: &Json) -> bool {
    match value {
        Json::String(text) => text.contains('\0'),
        Json::Array(items) => items.iter().any(has_nul),
        Json::Object(object) => {
            object.iter().any(|(name, value)| name.contains('\0') || has_nul(value))
        }
        _ => false,
    }
}

impl Described for JsonObject {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .into()
    }
}

/// Named limits of a plan: what may be had of each. At most 50.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedLimits(BTreeMap<LimitName, Count>);

impl NamedLimits {
    const MAX: usize = 50;

    /// As they are stored.
    #[must_use]
    pub fn into_map(self) -> BTreeMap<String, i64> {
        self.0.into_iter().map(|(name, limit)| (name.0, limit.get())).collect()
    }
}

impl Deserr<Faults> for NamedLimits {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> std::result::Result<Self, Faults> {
        let Value::Map(map) = value else { return Err(refuse(value, &[ValueKind::Map], location)) };
        let (mut limits, mut faults) = (BTreeMap::new(), None);
        for (name, limit) in deserr::Map::into_iter(map) {
            let at = location.push_key(&name);
            let limit = Count::deserialize_from_value(limit.into_value(), at);
            match (LimitName::check(&name), limit) {
                (Some(name), Ok(limit)) => drop(limits.insert(name, limit)),
                (None, _) => {
                    faults = Some(Faults::add(faults, at, None, LimitName::RULE.to_owned()));
                }
                (_, Err(fault)) => faults = Some(take_cf_content(Faults::merge(faults, fault, at))),
            }
        }
        if limits.len() > Self::MAX {
            faults = Some(Faults::add(
                faults,
                location,
                None,
                format!("must have at most {} names", Self::MAX),
            ));
        }
        faults.map_or(Ok(Self(limits)), Err)
    }
}

impl Described for NamedLimits {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .property_names(Some(text().pattern(Some("^[a-z][a-z0-9_]{0,49}$"))))
            .additional_properties(Some(Count::schema()))
            .max_properties(Some(Self::MAX))
            .into()
    }
}

/// What a tier is called by programs: `standard`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierName(String);

impl TierName {
    const PATTERN: &str = "^[a-z][a-z0-9_-]{0,49}$";

    /// The text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Deserr<Faults> for TierName {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> std::result::Result<Self, Faults> {
        let parse = |text: &str| {
            let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
            let well_formed = text.len() <= 50
                && text.starts_with(|c: char| c.is_ascii_lowercase())
                && text.bytes().all(rest);
            if well_formed {
                Ok(Self(text.to_owned()))
            } else {
                Err(Error::malformed("malformed_name", text))
            }
        };
        read_id(value, location, parse, Self::PATTERN)
    }
}

impl Described for TierName {
    fn schema() -> RefOr<Schema> {
        text().pattern(Some(Self::PATTERN)).into()
    }
}

/// What a plan limits, such as `alert_rules`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LimitName(String);

impl LimitName {
    const RULE: &str =
        "must be named in lower case: a letter, then letters, digits and underscores, at most 50";

    fn check(text: &str) -> Option<Self> {
        let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let well_formed = text.len() <= 50
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(rest);
        well_formed.then(|| Self(text.to_owned()))
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
    pattern: &str,
) -> std::result::Result<T, Faults> {
    match value {
        Value::String(text) => {
            parse(&text).map_err(|_| Faults::one(location, format!("must match {pattern}")))
        }
        other => Err(refuse(other, &[ValueKind::String], location)),
    }
}
