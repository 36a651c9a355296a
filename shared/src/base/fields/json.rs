//! Objects of the caller's own.

use std::collections::BTreeMap;

use deserr::{
    Deserr, IntoValue, MergeWithError as _, Value, ValueKind, ValuePointerRef, take_cf_content,
};
use serde_json::Value as Json;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema};

use super::numbers::Count;
use super::text::text;
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

/// What a plan limits, such as `alert_rules`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct LimitName(String);

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
