//! Whole numbers within bounds.

use deserr::{Deserr, IntoValue, Value, ValueKind, ValuePointerRef};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};

use super::{Described, Faults, refuse};

/// A whole number within bounds, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Int<const MIN: i64, const MAX: i64>(i64);

/// How many of something: devices, slots.
pub type Count = Int<0, 1_000_000_000>;

/// An amount of money in cents.
pub type Cents = Int<0, 99_999_999_999>;

/// The place of something in a list.
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
