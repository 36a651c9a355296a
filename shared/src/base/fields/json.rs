//! Objects of the caller's own.

use deserr::{Deserr, IntoValue, Value, ValueKind, ValuePointerRef};
use serde_json::Value as Json;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema};

use super::{Described, Faults, refuse};

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

pub(crate) fn has_nul(value: &Json) -> bool {
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
