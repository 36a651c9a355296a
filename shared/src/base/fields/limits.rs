//! What a plan limits by name (docs/catalogue.md, "Named limits").

use std::collections::BTreeMap;

use deserr::{
    Deserr, IntoValue, MergeWithError as _, Value, ValueKind, ValuePointerRef, take_cf_content,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};

use super::numbers::Count;
use super::text::text;
use super::{Described, Faults, refuse};

/// How much may be had of what a plan names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum NamedLimit {
    /// So many.
    Number(i64),
    /// Whether there is it at all.
    Feature(bool),
    /// Any number: `null`.
    Unlimited,
}

/// Limits by name, as they are stored.
pub type Limits = BTreeMap<String, NamedLimit>;

impl NamedLimit {
    /// The limit of so many of a plan. Only a number grows.
    #[must_use]
    pub fn times(self, quantity: i32) -> Self {
        match self {
            Self::Number(number) => Self::Number(number.saturating_mul(quantity.into())),
            Self::Feature(_) | Self::Unlimited => self,
        }
    }

    /// Two limits together, in any order: numbers add up, a feature is there if either has it, and
    /// what is unlimited stays so.
    ///
    /// Copies may have a feature beside a number, from before and after a name changed its kind:
    /// there the feature counts as unlimited, and its absence as 0, so that nobody loses anything.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Number(one), Self::Number(other)) => Self::Number(one.saturating_add(other)),
            (Self::Feature(one), Self::Feature(other)) => Self::Feature(one || other),
            (Self::Number(number), Self::Feature(false))
            | (Self::Feature(false), Self::Number(number)) => Self::Number(number),
            _ => Self::Unlimited,
        }
    }

    /// What there is of it for who has no plan that names it.
    #[must_use]
    pub fn nothing(self) -> Self {
        if self.is_feature() { Self::Feature(false) } else { Self::Number(0) }
    }

    /// Whether it is a feature, and so nothing that can be counted.
    #[must_use]
    pub fn is_feature(self) -> bool {
        matches!(self, Self::Feature(_))
    }
}

impl Deserr<Faults> for NamedLimit {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> std::result::Result<Self, Faults> {
        match value {
            Value::Null => Ok(Self::Unlimited),
            Value::Boolean(has) => Ok(Self::Feature(has)),
            Value::String(_) | Value::Sequence(_) | Value::Map(_) => {
                Err(Faults::one(location, "must be a whole number, true, false or null"))
            }
            number => Count::deserialize_from_value(number, location)
                .map(|number| Self::Number(number.get())),
        }
    }
}

impl Described for NamedLimit {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::Array(vec![Type::Integer, Type::Boolean, Type::Null]))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(0))
            .maximum(Some(1_000_000_000))
            .into()
    }
}

/// Something for each of at most 50 names, such as `alert_rules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named<T>(BTreeMap<LimitName, T>);

/// The named limits of a plan.
pub type NamedLimits = Named<NamedLimit>;

/// How many there are of what plans limit by name.
pub type NamedCounts = Named<Count>;

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Named<T> {
    const MAX: usize = 50;

    /// As they are stored.
    #[must_use]
    pub fn into_map(self) -> BTreeMap<String, T> {
        self.0.into_iter().map(|(name, of)| (name.0, of)).collect()
    }
}

impl<T: Deserr<Faults>> Deserr<Faults> for Named<T> {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> std::result::Result<Self, Faults> {
        let Value::Map(map) = value else { return Err(refuse(value, &[ValueKind::Map], location)) };
        let (mut named, mut faults) = (BTreeMap::new(), None);
        for (name, of) in deserr::Map::into_iter(map) {
            let at = location.push_key(&name);
            let of = T::deserialize_from_value(of.into_value(), at);
            match (LimitName::check(&name), of) {
                (Some(name), Ok(of)) => drop(named.insert(name, of)),
                (None, _) => {
                    faults = Some(Faults::add(faults, at, None, LimitName::RULE.to_owned()));
                }
                (_, Err(fault)) => faults = Some(take_cf_content(Faults::merge(faults, fault, at))),
            }
        }
        if named.len() > Self::MAX {
            faults = Some(Faults::add(
                faults,
                location,
                None,
                format!("must have at most {} names", Self::MAX),
            ));
        }
        faults.map_or(Ok(Self(named)), Err)
    }
}

impl<T: Described> Described for Named<T> {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .property_names(Some(text().pattern(Some("^[a-z][a-z0-9_]{0,49}$"))))
            .additional_properties(Some(T::schema()))
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

#[cfg(test)]
mod tests {
    use super::NamedLimit::{Feature, Number, Unlimited};
    use super::*;

    const ALL: [NamedLimit; 5] = [Number(0), Number(7), Feature(false), Feature(true), Unlimited];

    #[test]
    fn unlimited_wins_numbers_add_up_and_any_feature_is_enough() {
        for (one, other, together) in [
            (Number(2), Number(3), Number(5)),
            (Number(i64::MAX), Number(3), Number(i64::MAX)),
            (Number(2), Unlimited, Unlimited),
            (Unlimited, Unlimited, Unlimited),
            (Feature(false), Feature(false), Feature(false)),
            (Feature(false), Feature(true), Feature(true)),
            (Number(2), Feature(true), Unlimited),
            (Number(2), Feature(false), Number(2)),
            (Unlimited, Feature(false), Unlimited),
        ] {
            assert_eq!(one.and(other), together, "{one:?} and {other:?}");
            assert_eq!(other.and(one), together, "{other:?} and {one:?}");
        }
    }

    #[test]
    fn it_does_not_matter_in_which_order_members_are_added() {
        for one in ALL {
            for other in ALL {
                for third in ALL {
                    let (left, right) = (one.and(other).and(third), one.and(other.and(third)));
                    assert_eq!(left, right, "{one:?}, {other:?}, {third:?}");
                }
            }
        }
    }

    #[test]
    fn a_quantity_multiplies_numbers_only() {
        let three = ALL.map(|limit| limit.times(3));
        assert_eq!(three, [Number(0), Number(21), Feature(false), Feature(true), Unlimited]);
    }

    #[test]
    fn a_limit_is_stored_as_it_is_written_and_old_rows_are_numbers() {
        let text = r#"{"alert_rules":25,"sso":true,"users":null}"#;
        let limits: Limits = serde_json::from_str(text).expect("limits");
        assert_eq!(limits["alert_rules"], Number(25));
        assert_eq!(limits["sso"], Feature(true));
        assert_eq!(limits["users"], Unlimited);
        assert_eq!(serde_json::to_string(&limits).expect("JSON"), text);
    }
}
