//! Values as columns: ids and enums are text in the database, and are read and written as their
//! own types.

use jiff::Timestamp;
use tokio_postgres::types::{ToSql, Type};

/// A value of a condition, with the type of its column: a statement that is planned for its values
/// is sent with both.
pub trait Value: ToSql + Sync + Send + 'static {
    /// The column's type.
    const TYPE: Type;
}

impl Value for String {
    const TYPE: Type = Type::TEXT;
}

impl Value for &'static str {
    const TYPE: Type = Type::TEXT;
}

impl Value for i32 {
    const TYPE: Type = Type::INT4;
}

impl Value for i64 {
    const TYPE: Type = Type::INT8;
}

impl Value for Timestamp {
    const TYPE: Type = Type::TIMESTAMPTZ;
}

/// Reads and writes a type with `as_str` and `parse` as a text column. A stored value that is not
/// well formed is an error of `Row::try_get`.
macro_rules! text_column {
    ($name:ty) => {
        impl tokio_postgres::types::ToSql for $name {
            fn to_sql(
                &self,
                ty: &tokio_postgres::types::Type,
                out: &mut bytes::BytesMut,
            ) -> std::result::Result<
                tokio_postgres::types::IsNull,
                Box<dyn std::error::Error + Sync + Send>,
            > {
                self.as_str().to_sql(ty, out)
            }

            fn accepts(ty: &tokio_postgres::types::Type) -> bool {
                <&str as tokio_postgres::types::ToSql>::accepts(ty)
            }

            tokio_postgres::types::to_sql_checked!();
        }

        impl<'a> tokio_postgres::types::FromSql<'a> for $name {
            fn from_sql(
                ty: &tokio_postgres::types::Type,
                raw: &'a [u8],
            ) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
                let text = <&str as tokio_postgres::types::FromSql>::from_sql(ty, raw)?;
                Self::parse(text).map_err(Into::into)
            }

            fn accepts(ty: &tokio_postgres::types::Type) -> bool {
                <&str as tokio_postgres::types::FromSql>::accepts(ty)
            }
        }

        impl $crate::base::sql::Value for $name {
            const TYPE: tokio_postgres::types::Type = tokio_postgres::types::Type::TEXT;
        }
    };
}

pub(crate) use text_column;
