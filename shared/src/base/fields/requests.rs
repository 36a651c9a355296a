//! Requests, updates and enums, put together from fields.

use deserr::{IntoValue, Value, ValueKind, ValuePointerRef};
use serde_json::Value as Json;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{RefOr, schema};

use super::{Faults, refuse};

/// How a type looks in the OpenAPI document.
pub trait Described {
    /// Its schema.
    fn schema() -> RefOr<Schema>;
}

impl Described for bool {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(SchemaType::Type(Type::Boolean)).into()
    }
}

impl<T: Described> Described for Option<T> {
    fn schema() -> RefOr<Schema> {
        match T::schema() {
            RefOr::T(Schema::Object(mut object)) => {
                if let SchemaType::Type(known) = object.schema_type {
                    object.schema_type = SchemaType::Array(vec![known, Type::Null]);
                }
                if let Some(words) = &mut object.enum_values {
                    words.push(Json::Null);
                }
                RefOr::T(Schema::Object(object))
            }
            other => schema::OneOfBuilder::new()
                .item(other)
                .item(ObjectBuilder::new().schema_type(SchemaType::Type(Type::Null)))
                .into(),
        }
    }
}

/// What the documentation of a request's field says about its absence.
#[doc(hidden)]
#[macro_export]
macro_rules! presence {
    () => {
        "Required."
    };
    ($default:expr) => {
        concat!("If absent: `", stringify!($default), "`.")
    };
}

/// Makes a request of fields: `name: Type`, or `name: Type = value when absent`. It reads itself
/// (unknown fields are faults, all faults are named), and describes itself as a body (`ToSchema`)
/// and as a query string (`IntoParams`).
#[macro_export]
macro_rules! request {
    ($($(#[doc = $doc:expr])* pub struct $name:ident {
        $($(#[doc = $field_doc:expr])* $field:ident : $ty:ty $(= $default:expr)?),* $(,)?
    })+) => {$(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, deserr::Deserr)]
        #[deserr(error = $crate::base::fields::Faults, deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $field_doc])*
                #[doc = $crate::presence!($($default)?)]
                $(#[deserr(default = $default)])?
                pub $field: $ty,
            )*
        }

        impl $name {
            /// Name, schema, description, and whether it must be given.
            fn fields() -> Vec<(&'static str, utoipa::openapi::RefOr<utoipa::openapi::Schema>,
                String, bool)> {
                vec![$((
                    stringify!($field),
                    <$ty as $crate::base::fields::Described>::schema(),
                    $crate::base::fields::joined(&[$($field_doc),*]),
                    $crate::base::fields::joined(&[$(stringify!($default)),*]).is_empty(),
                )),*]
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::base::fields::object(Self::fields())
            }
        }

        impl utoipa::ToSchema for $name {}

        impl $crate::base::fields::Described for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::base::fields::object(Self::fields())
            }
        }

        impl utoipa::IntoParams for $name {
            fn into_params(
                _: impl Fn() -> Option<utoipa::openapi::path::ParameterIn>,
            ) -> Vec<utoipa::openapi::path::Parameter> {
                $crate::base::fields::parameters(Self::fields())
            }
        }
    )+};
}

/// Makes a request that changes something: each field may be absent, and then keeps what is.
#[macro_export]
macro_rules! update {
    ($(#[doc = $doc:expr])* pub struct $name:ident {
        $($(#[doc = $field_doc:expr])* $field:ident : $ty:ty),* $(,)?
    }) => {
        $crate::request! {
            $(#[doc = $doc])*
            pub struct $name {
                $($(#[doc = $field_doc])*
                $field: $crate::base::fields::Change<$ty> = $crate::base::fields::Change::Keep,)*
            }
        }

        impl $name {
            /// Whether it names nothing.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                !(false $(|| self.$field.is_set())*)
            }
        }
    };
}

type Fields = Vec<(&'static str, RefOr<Schema>, String, bool)>;

/// The lines of a comment, as one.
#[must_use]
pub fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// The schema of a `request!` as a body.
#[must_use]
pub fn object(fields: Fields) -> RefOr<Schema> {
    let mut object = ObjectBuilder::new()
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)));
    for (name, schema, description, required) in fields {
        let schema = match schema {
            RefOr::T(Schema::Object(mut field)) => {
                field.description = (!description.is_empty()).then_some(description);
                RefOr::T(Schema::Object(field))
            }
            other => other,
        };
        object = object.property(name, schema);
        if required {
            object = object.required(name);
        }
    }
    object.into()
}

/// The parameters of a `request!` as a query string.
#[must_use]
pub fn parameters(fields: Fields) -> Vec<utoipa::openapi::path::Parameter> {
    use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
    let parameter = |(name, schema, description, required): (&str, _, String, bool)| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(if required {
                utoipa::openapi::Required::True
            } else {
                utoipa::openapi::Required::False
            })
            .description((!description.is_empty()).then_some(description))
            .schema(Some(schema))
            .build()
    };
    fields.into_iter().map(parameter).collect()
}

/// Makes an enum with a spelling for each variant: `Trial = "TRIAL"`. The enum is read from
/// requests and rows by that spelling, and describes itself for OpenAPI.
#[macro_export]
macro_rules! words {
    ($($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)?
    })+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As the database and the API spell it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// From that spelling.
            ///
            /// # Errors
            /// `Internal`: the database holds a value that its CHECK does not allow.
            pub fn parse(word: &str) -> $crate::Result<Self> {
                let found = Self::ALL.iter().copied().find(|known| known.as_str() == word);
                found.ok_or_else(|| $crate::Error::Internal(format!("{word:?} is no {}",
                    stringify!($name))))
            }
        }

        impl deserr::Deserr<$crate::base::fields::Faults> for $name {
            fn deserialize_from_value<V: deserr::IntoValue>(
                value: deserr::Value<V>,
                location: deserr::ValuePointerRef<'_>,
            ) -> std::result::Result<Self, $crate::base::fields::Faults> {
                $crate::base::fields::read_word(value, location, &[$(($word, Self::$variant)),+])
            }
        }

        impl $crate::base::fields::Described for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::base::fields::text().enum_values(Some([$($word),+])).into()
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                <Self as $crate::base::fields::Described>::schema()
            }
        }

        impl utoipa::ToSchema for $name {}

        $crate::base::sql::text_column!($name);

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok,
            S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> std::result::Result<Self, D::Error> {
                let word = String::deserialize(deserializer)?;
                Self::parse(&word).map_err(serde::de::Error::custom)
            }
        }
    )+};
}

/// Reads one of these spellings.
///
/// # Errors
/// A fault that lists them.
pub fn read_word<T: Copy, V: IntoValue>(
    value: Value<V>,
    location: ValuePointerRef<'_>,
    words: &[(&str, T)],
) -> std::result::Result<T, Faults> {
    let Value::String(given) = value else {
        return Err(refuse(value, &[ValueKind::String], location));
    };
    let found = words.iter().find(|(word, _)| *word == given).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| {
        Faults::one(
            location,
            format!(
                "must be one of {}",
                words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ")
            ),
        )
    })
}
