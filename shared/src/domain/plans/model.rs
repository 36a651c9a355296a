//! A plan, its updates, and which plan a Stripe subscription buys.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::error::FieldFault;
use crate::base::fields::{
    Cents, Change, Count, Description, Limits, List, Name, NamedLimit, NamedLimits, SortOrder,
    TierId,
};
use crate::base::ids::{Currency, PlanId, StripePriceId};
use crate::base::version::Versioned;
use crate::domain::families::subscription::Subscription;
use crate::domain::prices;
use crate::domain::prices::model::{NewPrice, Price, PriceOf, Prices};
use crate::{Error, Result, request, update};

/// A plan of the catalogue. A price id is the present one; former ones still resolve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the fields of docs/catalogue.md")]
pub struct Plan {
    pub plan_id: PlanId,
    pub name: String,
    pub description: String,
    pub device_limit: i32,
    /// Other limits, by name: a number, `null` for any number; of a feature whether it is there.
    pub limits: BTreeMap<String, NamedLimit>,
    /// The default currency: that of the four fields after it.
    // Answers that the release before kept have neither this nor `prices`.
    #[serde(default = "Currency::usd")]
    #[schema(required = true)]
    pub currency: Currency,
    /// The Stripe price per month.
    pub stripe_price_id: Option<StripePriceId>,
    pub stripe_annual_price_id: Option<StripePriceId>,
    pub monthly_price_cents: Option<i64>,
    pub annual_price_cents: Option<i64>,
    /// What it costs in every currency, the default one too.
    #[serde(default)]
    #[schema(required = true)]
    pub prices: Vec<Price>,
    /// Whether it is on sale. Subscriptions keep a retired plan.
    pub is_active: bool,
    pub sort_order: i32,
    /// The number in its `ETag`.
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Versioned for Plan {
    fn version(&self) -> i64 {
        self.version
    }
}

request! {
    /// A plan to add.
    pub struct NewPlan {
        /// Never changed.
        plan_id: PlanId,
        name: Name,
        description: Description = Description::default(),
        /// How many devices a subscription to it may have.
        device_limit: Count = Count::ZERO,
        /// Other limits, by name, such as `{"alert_rules": 25, "users": null, "sso": true}`:
        /// a number, `null` for any number, or whether there is a feature.
        limits: NamedLimits = NamedLimits::default(),
        /// The Stripe price per month. A price belongs to one plan or tier.
        stripe_price_id: Option<StripePriceId> = None,
        /// The Stripe price per year.
        stripe_annual_price_id: Option<StripePriceId> = None,
        /// The price per month that is shown, in cents.
        monthly_price_cents: Option<Cents> = None,
        /// The same per year.
        annual_price_cents: Option<Cents> = None,
        /// What it costs in every currency, in the place of the four fields before. Each currency
        /// and interval once.
        prices: Option<List<NewPrice, 100>> = None,
        /// Whether it is on sale.
        is_active: bool = true,
        sort_order: SortOrder = SortOrder::ZERO,
    }

    /// How many slots of a tier a plan includes.
    pub struct TierDefault {
        tier_id: TierId,
        slot_limit: Count,
    }
}

update! {
    /// Changes of a plan. An absent field stays as it is; `null` clears an optional one.
    pub struct PlanUpdate {
        name: Name,
        description: Description,
        device_limit: Count,
        limits: NamedLimits,
        stripe_price_id: Option<StripePriceId>,
        stripe_annual_price_id: Option<StripePriceId>,
        monthly_price_cents: Option<Cents>,
        annual_price_cents: Option<Cents>,
        /// What it costs in every currency, in the place of the four fields before and of all that
        /// is not listed.
        prices: List<NewPrice, 100>,
        is_active: bool,
        sort_order: SortOrder,
        /// Whether a price that is another plan's, or of the other interval, is taken from there.
        move_prices: bool,
    }
}

impl Plan {
    /// A plan at its first version.
    ///
    /// # Errors
    /// `Invalid`, naming what is wrong with its prices.
    pub fn from_new(new: NewPlan, default: Currency, now: Timestamp) -> Result<Self> {
        let has_own = new.stripe_price_id.is_some()
            || new.stripe_annual_price_id.is_some()
            || new.monthly_price_cents.is_some()
            || new.annual_price_cents.is_some();
        let list = new.prices.map(|List(list)| prices::model::checked(list, &default, has_own));
        let list = list.transpose()?;
        let mut plan = Self {
            plan_id: new.plan_id,
            name: new.name.into_string(),
            description: new.description.into_string(),
            device_limit: new.device_limit.get_i32(),
            limits: new.limits.into_map(),
            currency: default,
            stripe_price_id: new.stripe_price_id,
            stripe_annual_price_id: new.stripe_annual_price_id,
            monthly_price_cents: new.monthly_price_cents.map(Cents::get),
            annual_price_cents: new.annual_price_cents.map(Cents::get),
            prices: Vec::new(),
            is_active: new.is_active,
            sort_order: new.sort_order.get_i32(),
            version: 1,
            created_at: now,
            updated_at: now,
        };
        plan.all_prices().set(list);
        Ok(plan)
    }

    /// Its prices, in the fields and in the list.
    pub(super) fn all_prices(&mut self) -> Prices<'_> {
        Prices {
            default: &self.currency,
            month: (&mut self.stripe_price_id, &mut self.monthly_price_cents),
            year: (&mut self.stripe_annual_price_id, &mut self.annual_price_cents),
            all: &mut self.prices,
        }
    }
}

impl Plan {
    /// The named limits of so many of it.
    #[must_use]
    pub fn limits_of(&self, quantity: i32) -> Limits {
        self.limits.iter().map(|(name, limit)| (name.clone(), limit.times(quantity))).collect()
    }

    /// Refuses a name that another plan has as the other kind: a feature, or something counted.
    ///
    /// # Errors
    /// `Invalid`, naming each.
    pub fn check_kinds(&self, others: &BTreeMap<PlanId, Limits>) -> Result<()> {
        let fault = |(name, limit): (&String, &NamedLimit)| {
            let (plan, _) = others.iter().find(|(_, limits)| {
                limits.get(name).is_some_and(|other| other.is_feature() != limit.is_feature())
            })?;
            let kind = if limit.is_feature() { "a whole number or null" } else { "true or false" };
            Some(FieldFault {
                field: format!("limits.{name}"),
                message: format!("must be {kind}, as in the plan '{plan}'"),
            })
        };
        let faults: Vec<_> = self.limits.iter().filter_map(fault).collect();
        if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
    }

    /// Gives a subscription so many of it: what they bring is copied, but for slots.
    pub fn give(&self, subscription: &mut Subscription, quantity: i32) {
        subscription.plan_id = Some(self.plan_id.clone());
        subscription.quantity = quantity;
        subscription.device_limit = self.device_limit.saturating_mul(quantity);
        subscription.limits = Some(self.limits_of(quantity));
    }
}

impl PlanUpdate {
    /// The prices that it takes from whichever plan has them.
    #[must_use]
    pub fn moved_prices(&self) -> Vec<StripePriceId> {
        if self.move_prices != Change::Set(true) {
            return Vec::new();
        }
        let named = |price: &Change<Option<StripePriceId>>| match price {
            Change::Set(price) => price.clone(),
            Change::Keep => None,
        };
        let listed = match &self.prices {
            Change::Set(List(list)) => list.as_slice(),
            Change::Keep => &[],
        };
        [&self.stripe_price_id, &self.stripe_annual_price_id]
            .into_iter()
            .filter_map(named)
            .chain(listed.iter().filter_map(|price| price.stripe_price_id.clone()))
            .collect()
    }

    /// The plan with the update applied.
    ///
    /// # Errors
    /// `Invalid`, naming what is wrong with its prices.
    pub fn applied_to(self, mut plan: Plan) -> Result<Plan> {
        let has_own = self.stripe_price_id.is_set()
            || self.stripe_annual_price_id.is_set()
            || self.monthly_price_cents.is_set()
            || self.annual_price_cents.is_set();
        let list = match self.prices {
            Change::Set(List(list)) => Some(prices::model::checked(list, &plan.currency, has_own)?),
            Change::Keep => None,
        };
        self.name.apply(&mut plan.name, Name::into_string);
        self.description.apply(&mut plan.description, Description::into_string);
        self.device_limit.apply(&mut plan.device_limit, Count::get_i32);
        self.limits.apply(&mut plan.limits, NamedLimits::into_map);
        self.stripe_price_id.apply(&mut plan.stripe_price_id, |id| id);
        self.stripe_annual_price_id.apply(&mut plan.stripe_annual_price_id, |id| id);
        self.monthly_price_cents
            .apply(&mut plan.monthly_price_cents, |cents| cents.map(Cents::get));
        self.annual_price_cents.apply(&mut plan.annual_price_cents, |cents| cents.map(Cents::get));
        self.is_active.apply(&mut plan.is_active, |active| active);
        self.sort_order.apply(&mut plan.sort_order, SortOrder::get_i32);
        plan.all_prices().set(list);
        Ok(plan)
    }
}

/// The tier defaults of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TierDefaults {
    /// The plan.
    pub plan_id: PlanId,
    /// In the tiers' order.
    pub tier_defaults: Vec<PlanTier>,
    /// The plan's version.
    pub version: i64,
}

/// One tier default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the fields of docs/catalogue.md")]
pub struct PlanTier {
    pub id: i64,
    pub plan_id: PlanId,
    pub tier_id: i32,
    pub name: String,
    pub display_name: String,
    pub slot_limit: i32,
}

impl Versioned for TierDefaults {
    fn version(&self) -> i64 {
        self.version
    }
}

impl TierDefaults {
    /// Whether they are these already, in any order.
    #[must_use]
    pub fn are(&self, wanted: &[TierDefault]) -> bool {
        let mut have: Vec<_> =
            self.tier_defaults.iter().map(|held| (held.tier_id, held.slot_limit)).collect();
        let mut want: Vec<_> = wanted
            .iter()
            .map(|entry| (entry.tier_id.get_i32(), entry.slot_limit.get_i32()))
            .collect();
        have.sort_unstable();
        want.sort_unstable();
        have == want
    }
}

/// Refuses a list that names a tier twice.
///
/// # Errors
/// `Invalid`, naming each repetition.
pub fn no_tier_twice(defaults: &[TierDefault]) -> Result<()> {
    let twice = defaults.iter().enumerate().filter(|(index, entry)| {
        defaults[..*index].iter().any(|earlier| earlier.tier_id == entry.tier_id)
    });
    let faults: Vec<_> = twice
        .map(|(index, _)| FieldFault {
            field: format!("[{index}].tier_id"),
            message: "is listed twice".to_owned(),
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
}

/// The plan item among the items of a Stripe subscription: by its price, at any position
/// (docs/events.md, "Which plan").
///
/// `known` are the mapped prices among `items`. `None` if no item has a plan's price.
///
/// # Errors
/// `Conflict` (`two_plans`) if there are prices of two plans: an operator must decide which counts.
pub fn plan_item<'a>(
    items: &'a [StripePriceId],
    known: &[(StripePriceId, PriceOf)],
) -> Result<Option<(usize, &'a StripePriceId, PlanId)>> {
    let mut found: Option<(usize, &StripePriceId, PlanId)> = None;
    for (index, price) in items.iter().enumerate() {
        let Some(PriceOf::Plan(plan)) = known.iter().find(|(id, _)| id == price).map(|(_, of)| of)
        else {
            continue;
        };
        match &found {
            Some((_, _, other)) if other != plan => {
                return Err(Error::conflict(
                    "two_plans",
                    format!("the Stripe subscription has prices of two plans, {other} and {plan}"),
                ));
            }
            Some(_) => {}
            None => found = Some((index, price, plan.clone())),
        }
    }
    Ok(found)
}

pub(crate) fn not_found() -> Error {
    Error::not_found("plan_not_found", "Plan not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(id: &str) -> StripePriceId {
        StripePriceId::parse(id).expect("well formed")
    }

    fn plan(id: &str) -> PlanId {
        PlanId::parse(id).expect("well formed")
    }

    #[test]
    fn the_plan_is_found_at_any_place_and_slots_never_decide() {
        let known = [
            (price("price_slot"), PriceOf::Tier(2)),
            (price("price_pro"), PriceOf::Plan(plan("pro"))),
            (price("price_pro_old"), PriceOf::Plan(plan("pro"))),
            (price("price_other"), PriceOf::Plan(plan("other"))),
        ];
        let of = |items: &[&str]| {
            plan_item(&items.iter().map(|id| price(id)).collect::<Vec<_>>(), &known)
                .map(|found| found.map(|(index, _, plan)| (index, plan.to_string())))
        };
        assert_eq!(
            of(&["price_slot", "price_pro"]).expect("one plan"),
            Some((1, "pro".to_owned()))
        );
        assert_eq!(
            of(&["price_pro", "price_pro_old"]).expect("one plan"),
            Some((0, "pro".to_owned()))
        );
        assert_eq!(of(&["price_slot", "price_unknown"]).expect("none"), None);
        assert_eq!(of(&["price_pro", "price_other"]).expect_err("two").code(), "two_plans");
    }
}
