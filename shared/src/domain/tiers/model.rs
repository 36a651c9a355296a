//! A device tier and its updates.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::base::error::Error;
use crate::base::fields::{Cents, Description, JsonObject, Name, SortOrder, TierName};
use crate::base::ids::StripePriceId;
use crate::base::version::Versioned;
use crate::{request, update};

/// A device tier of the catalogue. Prices are in cents, for one extra slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the fields of docs/catalogue.md")]
pub struct Tier {
    pub tier_id: i32,
    pub name: String,
    pub display_name: String,
    pub description: String,
    /// What a device of this tier can do; free JSON of the platform.
    pub features: Map<String, Value>,
    pub addon_monthly_price_cents: Option<i64>,
    pub addon_annual_price_cents: Option<i64>,
    /// The Stripe price of a slot per month.
    pub addon_stripe_price_id: Option<StripePriceId>,
    pub addon_stripe_annual_price_id: Option<StripePriceId>,
    pub sort_order: i32,
    /// Whether a device can get it. Devices that have it keep it.
    pub is_active: bool,
    /// The number in its `ETag`.
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Versioned for Tier {
    fn version(&self) -> i64 {
        self.version
    }
}

/// A device tier as customers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields of docs/catalogue.md")]
pub struct OfferedTier {
    pub tier_id: i32,
    pub name: String,
    pub display_name: String,
    pub description: String,
    pub features: Map<String, Value>,
    /// For one extra slot, in cents.
    pub addon_monthly_price_cents: Option<i64>,
    pub addon_annual_price_cents: Option<i64>,
}

impl From<Tier> for OfferedTier {
    fn from(tier: Tier) -> Self {
        let Tier {
            tier_id,
            name,
            display_name,
            description,
            features,
            addon_monthly_price_cents,
            addon_annual_price_cents,
            ..
        } = tier;
        Self {
            tier_id,
            name,
            display_name,
            description,
            features,
            addon_monthly_price_cents,
            addon_annual_price_cents,
        }
    }
}

request! {
    /// A tier to add.
    pub struct NewTier {
        /// Never changed.
        name: TierName,
        display_name: Name,
        description: Description = Description::default(),
        /// What a device of this tier can do; free JSON of the platform.
        features: JsonObject = JsonObject::default(),
        /// The price of a slot per month that is shown, in cents.
        addon_monthly_price_cents: Option<Cents> = None,
        /// The same per year.
        addon_annual_price_cents: Option<Cents> = None,
        /// The Stripe price of a slot per month. A price belongs to one plan or tier.
        addon_stripe_price_id: Option<StripePriceId> = None,
        /// The same per year.
        addon_stripe_annual_price_id: Option<StripePriceId> = None,
        sort_order: SortOrder = SortOrder::ZERO,
        /// Whether a device can get it.
        is_active: bool = true,
    }
}

update! {
    /// Changes of a tier. An absent field stays as it is; `null` clears an optional one.
    pub struct TierUpdate {
        display_name: Name,
        description: Description,
        features: JsonObject,
        addon_monthly_price_cents: Option<Cents>,
        addon_annual_price_cents: Option<Cents>,
        addon_stripe_price_id: Option<StripePriceId>,
        addon_stripe_annual_price_id: Option<StripePriceId>,
        sort_order: SortOrder,
        is_active: bool,
    }
}

impl Tier {
    /// A tier at its first version; the database assigns its number.
    #[must_use]
    pub fn from_new(new: NewTier, now: Timestamp) -> Self {
        Self {
            tier_id: 0,
            name: new.name.into_string(),
            display_name: new.display_name.into_string(),
            description: new.description.into_string(),
            features: new.features.into_map(),
            addon_monthly_price_cents: new.addon_monthly_price_cents.map(Cents::get),
            addon_annual_price_cents: new.addon_annual_price_cents.map(Cents::get),
            addon_stripe_price_id: new.addon_stripe_price_id,
            addon_stripe_annual_price_id: new.addon_stripe_annual_price_id,
            sort_order: new.sort_order.get_i32(),
            is_active: new.is_active,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }
}

impl TierUpdate {
    /// The tier with the update applied.
    #[must_use]
    pub fn applied_to(self, mut tier: Tier) -> Tier {
        self.display_name.apply(&mut tier.display_name, Name::into_string);
        self.description.apply(&mut tier.description, Description::into_string);
        self.features.apply(&mut tier.features, JsonObject::into_map);
        self.addon_monthly_price_cents
            .apply(&mut tier.addon_monthly_price_cents, |cents| cents.map(Cents::get));
        self.addon_annual_price_cents
            .apply(&mut tier.addon_annual_price_cents, |cents| cents.map(Cents::get));
        self.addon_stripe_price_id.apply(&mut tier.addon_stripe_price_id, |id| id);
        self.addon_stripe_annual_price_id.apply(&mut tier.addon_stripe_annual_price_id, |id| id);
        self.sort_order.apply(&mut tier.sort_order, SortOrder::get_i32);
        self.is_active.apply(&mut tier.is_active, |active| active);
        tier
    }
}

pub(crate) fn not_found() -> Error {
    Error::not_found("tier_not_found", "Device tier not found")
}
