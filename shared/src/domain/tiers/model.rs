//! A device tier and its updates.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::base::fields::{
    Cents, Change, Description, JsonObject, List, Name, SortOrder, TierName,
};
use crate::base::ids::{Currency, StripePriceId};
use crate::base::version::Versioned;
use crate::domain::prices;
use crate::domain::prices::model::{NewPrice, OfferedPrice, Price, Prices};
use crate::{Error, Result, request, update};

/// A device tier of the catalogue. Prices are for one extra slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the fields of docs/catalogue.md")]
pub struct Tier {
    pub tier_id: i32,
    pub name: String,
    pub display_name: String,
    pub description: String,
    /// What a device of this tier can do; free JSON of the platform.
    pub features: Map<String, Value>,
    /// The default currency: that of the four fields after it.
    // Answers that the release before kept have neither this nor `prices`.
    #[serde(default = "Currency::usd")]
    #[schema(required = true)]
    pub currency: Currency,
    pub addon_monthly_price_cents: Option<i64>,
    pub addon_annual_price_cents: Option<i64>,
    /// The Stripe price of a slot per month.
    pub addon_stripe_price_id: Option<StripePriceId>,
    pub addon_stripe_annual_price_id: Option<StripePriceId>,
    /// What a slot costs in every currency, the default one too.
    #[serde(default)]
    #[schema(required = true)]
    pub prices: Vec<Price>,
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
    /// The default currency: that of the two fields after it.
    pub currency: Currency,
    /// For one extra slot, in cents.
    pub addon_monthly_price_cents: Option<i64>,
    pub addon_annual_price_cents: Option<i64>,
    /// The same in every currency: what counts is the one that the own plan is paid in.
    pub prices: Vec<OfferedPrice>,
}

impl From<Tier> for OfferedTier {
    fn from(tier: Tier) -> Self {
        let Tier {
            tier_id,
            name,
            display_name,
            description,
            features,
            currency,
            addon_monthly_price_cents,
            addon_annual_price_cents,
            prices,
            ..
        } = tier;
        Self {
            tier_id,
            name,
            display_name,
            description,
            features,
            currency,
            addon_monthly_price_cents,
            addon_annual_price_cents,
            prices: prices.into_iter().map(Into::into).collect(),
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
        /// What a slot costs in every currency, in the place of the four fields before. Each
        /// currency and interval once.
        prices: Option<List<NewPrice, 100>> = None,
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
        /// What a slot costs in every currency, in the place of the four fields before and of all
        /// that is not listed.
        prices: List<NewPrice, 100>,
        sort_order: SortOrder,
        is_active: bool,
    }
}

impl Tier {
    /// A tier at its first version; the database assigns its number.
    ///
    /// # Errors
    /// `Invalid`, naming what is wrong with its prices.
    pub fn from_new(new: NewTier, default: Currency, now: Timestamp) -> Result<Self> {
        let has_own = new.addon_stripe_price_id.is_some()
            || new.addon_stripe_annual_price_id.is_some()
            || new.addon_monthly_price_cents.is_some()
            || new.addon_annual_price_cents.is_some();
        let list = new.prices.map(|List(list)| prices::model::checked(list, &default, has_own));
        let list = list.transpose()?;
        let mut tier = Self {
            tier_id: 0,
            name: new.name.into_string(),
            display_name: new.display_name.into_string(),
            description: new.description.into_string(),
            features: new.features.into_map(),
            currency: default,
            addon_monthly_price_cents: new.addon_monthly_price_cents.map(Cents::get),
            addon_annual_price_cents: new.addon_annual_price_cents.map(Cents::get),
            addon_stripe_price_id: new.addon_stripe_price_id,
            addon_stripe_annual_price_id: new.addon_stripe_annual_price_id,
            prices: Vec::new(),
            sort_order: new.sort_order.get_i32(),
            is_active: new.is_active,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        tier.all_prices().set(list);
        Ok(tier)
    }

    /// Its prices, in the fields and in the list.
    pub(super) fn all_prices(&mut self) -> Prices<'_> {
        Prices {
            default: &self.currency,
            month: (&mut self.addon_stripe_price_id, &mut self.addon_monthly_price_cents),
            year: (&mut self.addon_stripe_annual_price_id, &mut self.addon_annual_price_cents),
            all: &mut self.prices,
        }
    }
}

impl TierUpdate {
    /// The tier with the update applied.
    ///
    /// # Errors
    /// `Invalid`, naming what is wrong with its prices.
    pub fn applied_to(self, mut tier: Tier) -> Result<Tier> {
        let has_own = self.addon_stripe_price_id.is_set()
            || self.addon_stripe_annual_price_id.is_set()
            || self.addon_monthly_price_cents.is_set()
            || self.addon_annual_price_cents.is_set();
        let list = match self.prices {
            Change::Set(List(list)) => Some(prices::model::checked(list, &tier.currency, has_own)?),
            Change::Keep => None,
        };
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
        tier.all_prices().set(list);
        Ok(tier)
    }
}

pub(crate) fn not_found() -> Error {
    Error::not_found("tier_not_found", "Device tier not found")
}
