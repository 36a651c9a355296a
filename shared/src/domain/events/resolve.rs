//! Which plan and which slots a Stripe subscription stands for (docs/events.md, "Which plan").

use std::collections::BTreeMap;

use crate::Result;
use crate::base::ids::{Currency, PlanId, StripePriceId};
use crate::db::Transaction;
use crate::domain::allocations::model::SlotLimit;
use crate::domain::plans::model::Plan;
use crate::domain::prices::model::PriceOf;
use crate::domain::{plans, prices};
use crate::outside::stripe;
use crate::outside::stripe::Item;

/// What a Stripe subscription's items and metadata stand for.
pub(crate) struct Resolved<'a> {
    pub plan: Option<Plan>,
    /// The plan item's price, else the first that is not for slots.
    pub price: Option<StripePriceId>,
    /// Whether the price itself is mapped to the plan.
    pub by_price: bool,
    /// The plan's item, else the first: its period is the term.
    pub item: &'a Item,
    /// How many of the plan are paid for: those of all items of its prices, else of the item that is
    /// not for slots; at least 1.
    pub quantity: i32,
    /// Slots by tier.
    pub slots: Vec<SlotLimit>,
    /// What mapped prices of it are in whose currency was not read before. By price.
    pub currencies: BTreeMap<StripePriceId, Currency>,
}

/// By price first, whichever item's it is, by metadata second (docs/events.md, "Which plan").
///
/// # Errors
/// `Conflict` (`two_plans`); `Upstream` (`stripe_shape`).
pub(crate) async fn resolve<'a>(
    tx: &Transaction,
    subscription: &'a crate::outside::stripe::Subscription,
    named: Option<&str>,
) -> Result<Resolved<'a>> {
    let items = &subscription.items.data;
    let Some(first) = items.first() else {
        return Err(stripe::unreadable(format!("subscription {} has no items", subscription.id)));
    };
    let prices: Vec<StripePriceId> = items.iter().map(Item::price).collect::<Result<_>>()?;
    let named = named.and_then(|id| PlanId::parse(id).ok());
    let read = async || {
        futures::try_join!(
            prices::store::find_with_unread(tx, &prices),
            plans::store::find_of(tx, &prices, named.as_ref())
        )
    };
    let ((mut known, mut unread), mut plans) = read().await?;
    let mut plan = plans::model::plan_item(&prices, &known)?;
    if plan.is_none() && known.len() < prices.len() {
        // One that is being mapped now counts; one that is mapped later finds what is made of this.
        prices::store::lock_shared(tx).await?;
        ((known, unread), plans) = read().await?;
        plan = plans::model::plan_item(&prices, &known)?;
    }
    let mut find = |id: &PlanId| {
        let index = plans.iter().position(|plan| plan.plan_id == *id)?;
        Some(plans.swap_remove(index))
    };
    let mut slots: Vec<SlotLimit> = Vec::new();
    for (item, price) in items.iter().zip(&prices) {
        let Some(tier) = prices::model::tier_of(price, &known) else { continue };
        let quantity = item.quantity();
        match slots.iter_mut().find(|slots| slots.tier_id == tier) {
            Some(slots) => slots.slot_limit = slots.slot_limit.saturating_add(quantity),
            None => slots.push(SlotLimit { tier_id: tier, slot_limit: quantity }),
        }
    }
    slots.sort_unstable_by_key(|slots| slots.tier_id);
    let read = items.iter().zip(&prices).filter(|(_, price)| unread.contains(price));
    let currencies =
        read.filter_map(|(item, price)| Some((price.clone(), item.currency()?))).collect();
    let quantity_of = |counts: &dyn Fn(&StripePriceId) -> bool| {
        let counted = items.iter().zip(&prices).filter(|(_, price)| counts(price));
        counted.fold(0, |sum: i32, (item, _)| sum.saturating_add(item.quantity())).max(1)
    };
    if let Some((index, price, plan)) = plan {
        let is_plans = |price: &StripePriceId| {
            known.iter().any(|(id, of)| id == price && matches!(of, PriceOf::Plan(_)))
        };
        return Ok(Resolved {
            plan: find(&plan),
            price: Some(price.clone()),
            by_price: true,
            item: &items[index],
            quantity: quantity_of(&is_plans),
            slots,
            currencies,
        });
    }
    let plan = named.as_ref().and_then(find);
    let price =
        prices.iter().find(|price| prices::model::tier_of(price, &known).is_none()).cloned();
    let quantity = quantity_of(&|other| Some(other) == price.as_ref());
    Ok(Resolved { plan, price, by_price: false, item: first, quantity, slots, currencies })
}
