//! Which plan and which slots a Stripe subscription stands for (docs/events.md, "Which plan").

use deadpool_postgres::Transaction;

use crate::Result;
use crate::base::ids::{PlanId, StripePriceId};
use crate::domain::allocations::model::SlotLimit;
use crate::domain::plans::model::Plan;
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
    /// Slots by tier.
    pub slots: Vec<SlotLimit>,
}

impl Resolved<'_> {
    /// As many devices as slots of all tiers.
    pub(super) fn devices(&self) -> i32 {
        self.slots.iter().fold(0, |sum, slots| sum.saturating_add(slots.slot_limit))
    }
}

/// By price first, whichever item's it is, by metadata second (docs/events.md, "Which plan").
///
/// # Errors
/// `Conflict` (`two_plans`); `Upstream` (`stripe_shape`).
pub(crate) async fn resolve<'a>(
    tx: &Transaction<'_>,
    subscription: &'a crate::outside::stripe::Subscription,
    named: Option<&str>,
) -> Result<Resolved<'a>> {
    let items = &subscription.items.data;
    let Some(first) = items.first().filter(|_| !subscription.items.has_more) else {
        return Err(stripe::unreadable(format!(
            "subscription {} has no items, or more than one page of them",
            subscription.id
        )));
    };
    let prices: Vec<StripePriceId> = items.iter().map(Item::price).collect::<Result<_>>()?;
    let mut known = prices::store::find(tx, &prices).await?;
    let mut plan = plans::model::plan_item(&prices, &known)?;
    if plan.is_none() && known.len() < prices.len() {
        // One that is being mapped now counts; one that is mapped later finds what is made of this.
        prices::store::lock_shared(tx).await?;
        known = prices::store::find(tx, &prices).await?;
        plan = plans::model::plan_item(&prices, &known)?;
    }
    let mut slots: Vec<SlotLimit> = Vec::new();
    for (item, price) in items.iter().zip(&prices) {
        let Some(tier) = prices::model::tier_of(price, &known) else { continue };
        let quantity = i32::try_from(item.quantity.unwrap_or(1)).unwrap_or(i32::MAX);
        match slots.iter_mut().find(|slots| slots.tier_id == tier) {
            Some(slots) => slots.slot_limit = slots.slot_limit.saturating_add(quantity),
            None => slots.push(SlotLimit { tier_id: tier, slot_limit: quantity }),
        }
    }
    slots.sort_unstable_by_key(|slots| slots.tier_id);
    if let Some((index, price, plan)) = plan {
        let plan = plans::store::find(tx, &plan).await?;
        return Ok(Resolved {
            plan,
            price: Some(price.clone()),
            by_price: true,
            item: &items[index],
            slots,
        });
    }
    let plan = match named.and_then(|id| PlanId::parse(id).ok()) {
        Some(id) => plans::store::find(tx, &id).await?,
        None => None,
    };
    let price =
        prices.iter().find(|price| prices::model::tier_of(price, &known).is_none()).cloned();
    Ok(Resolved { plan, price, by_price: false, item: first, slots })
}
