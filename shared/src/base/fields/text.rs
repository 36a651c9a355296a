//! Text of bounded length.

use bytes::BytesMut;
use deserr::{Deserr, IntoValue, Value, ValueKind, ValuePointerRef};
use tokio_postgres::types::{IsNull, ToSql, Type as Column, to_sql_checked};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};

use super::{Described, Faults, read_id, refuse};
use crate::Error;

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

    /// The part of a text from outside that this takes: without control characters and margins, cut
    /// at a character. None where nothing is left.
    #[must_use]
    pub fn fit(text: &str) -> Option<Self> {
        let clean: String = text.trim().chars().filter(|c| !is_refused(*c)).take(MAX).collect();
        Self::check(clean.trim().to_owned()).ok().filter(|text| !text.0.is_empty())
    }

    /// Takes what is short enough and clean.
    fn check(text: String) -> std::result::Result<Self, String> {
        let length = text.chars().count();
        if text.chars().any(is_refused) {
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

fn is_refused(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t')
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

impl<const MIN: usize, const MAX: usize> ToSql for Text<MIN, MAX> {
    fn to_sql(
        &self,
        ty: &Column,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.to_sql(ty, out)
    }

    fn accepts(ty: &Column) -> bool {
        <String as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

impl<const MIN: usize, const MAX: usize> crate::base::sql::Value for Text<MIN, MAX> {
    const TYPE: Column = Column::TEXT;
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

/// The value without its margins and without NUL (which `PostgreSQL` has no room for), where
/// something is left.
#[must_use]
pub fn filled(value: Option<&str>) -> Option<String> {
    let value = value?.replace('\0', "");
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}
