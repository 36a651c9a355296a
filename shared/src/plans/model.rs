//! Which plan a Stripe subscription buys.

use crate::ids::{PlanId, StripePriceId};
use crate::{Error, Result};

/// A plan, as far as a subscription takes it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its id.
    pub plan_id: PlanId,
    /// Devices that it allows.
    pub device_limit: i32,
}

/// What a price is mapped to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PriceOf {
    /// The plan itself.
    Plan(PlanId),
    /// Slots of this tier.
    Tier(i32),
}

/// The plan item among the items of a Stripe subscription: by its price, wherever it stands (docs/events.md, "Which plan").
///
/// `known` are the mapped prices among `items`. `None`: no item's price is a plan's.
///
/// # Errors
/// `Conflict` (`two_plans`) where prices of two plans are among them: a person must say which was meant.
pub fn plan_item<'a>(items: &'a [StripePriceId], known: &[(StripePriceId, PriceOf)]) -> Result<Option<(usize, &'a StripePriceId, PlanId)>> {
    let mut found: Option<(usize, &StripePriceId, PlanId)> = None;
    for (index, price) in items.iter().enumerate() {
        let Some(PriceOf::Plan(plan)) = known.iter().find(|(id, _)| id == price).map(|(_, of)| of) else { continue };
        match &found {
            Some((_, _, other)) if other != plan => {
                return Err(Error::conflict("two_plans", format!("the Stripe subscription has prices of two plans, {other} and {plan}")));
            }
            Some(_) => {}
            None => found = Some((index, price, plan.clone())),
        }
    }
    Ok(found)
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
            plan_item(&items.iter().map(|id| price(id)).collect::<Vec<_>>(), &known).map(|found| found.map(|(index, _, plan)| (index, plan.to_string())))
        };
        assert_eq!(of(&["price_slot", "price_pro"]).expect("one plan"), Some((1, "pro".to_owned())));
        assert_eq!(of(&["price_pro", "price_pro_old"]).expect("one plan"), Some((0, "pro".to_owned())));
        assert_eq!(of(&["price_slot", "price_unknown"]).expect("none"), None);
        assert_eq!(of(&["price_pro", "price_other"]).expect_err("two").code(), "two_plans");
    }
}
