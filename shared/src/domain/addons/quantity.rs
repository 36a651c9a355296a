//! What Stripe charges for slots at a renewal: as many as the family's renewing ADDONs have
//! (docs/events.md, "Outbox").
//!
//! Read, compare, set: a repetition, however late, sets the same quantities. The data is read when
//! the step runs, so one step serves all changes before it. A change while it runs makes it due
//! again (`outbox::store::insert_addon_quantity`).

use deadpool_postgres::Transaction;
use serde_json::{Value, json};

use super::model::RenewingSlots;
use super::store;
use crate::base::ids::{StripePriceId, StripeSubscriptionId, SubscriptionId};
use crate::db::Db;
use crate::domain::prices::model::{Interval, PriceOf};
use crate::domain::{families, prices};
use crate::outside::stripe;
use crate::outside::stripe::{Item, Stripe, Subscription};
use crate::{Error, Result};

/// What is to be done to the items.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Edit {
    Add(StripePriceId, u64),
    Set(String, u64),
    Remove(String),
}

/// Sets the quantities at Stripe, and returns what was done, or `None`. `key` is this attempt's
/// own: another attempt reads first, and must be free to repeat what an earlier one did and was
/// undone since.
///
/// # Errors
/// `Database`; `Upstream`; `Conflict`, for an operator: `unknown_interval`, `tier_not_sold`.
pub(crate) async fn set(
    db: &Db,
    stripe: &Stripe,
    root: &SubscriptionId,
    key: &str,
) -> Result<Option<Value>> {
    let Some((id, held)) = paid_at(db, root).await? else { return Ok(None) };
    let at_stripe = stripe.subscription(&id).await?;
    if matches!(at_stripe.status.as_str(), "canceled" | "incomplete_expired") {
        // It no longer charges for anything.
        return Ok(None);
    }
    if at_stripe.items.has_more {
        return Err(stripe::unreadable(format!(
            "subscription {id} has more than one page of items"
        )));
    }
    let (slots, known) = wanted(db, root, &at_stripe).await?;
    let edits = edits(&at_stripe.items.data, &slots, &known, held)?;
    for edit in &edits {
        match edit {
            Edit::Add(price, quantity) => {
                stripe.add_item(&id, price, *quantity, &format!("{key}:{price}")).await?;
            }
            Edit::Set(item, quantity) => {
                stripe.set_item_quantity(item, *quantity, &format!("{key}:{item}")).await?;
            }
            Edit::Remove(item) => stripe.remove_item(item).await?,
        }
    }
    let done: Vec<Value> = edits
        .into_iter()
        .map(|edit| match edit {
            Edit::Add(price, quantity) => json!({"price": price, "quantity": quantity}),
            Edit::Set(item, quantity) => json!({"item": item, "quantity": quantity}),
            Edit::Remove(item) => json!({"item": item, "quantity": 0}),
        })
        .collect();
    Ok((!done.is_empty()).then(|| json!({"stripe_subscription_id": id, "items": done})))
}

/// The Stripe subscription of a root, and whether an operator holds the root.
async fn paid_at(db: &Db, root: &SubscriptionId) -> Result<Option<(StripeSubscriptionId, bool)>> {
    let family = families::locks::find(&db.connection().await?, root).await?;
    Ok(family.and_then(|family| Some((family.root.stripe?.id, family.root.hold.is_some()))))
}

type Known = Vec<(StripePriceId, PriceOf)>;

/// How many slots renew, and what the prices at Stripe are for.
async fn wanted(
    db: &Db,
    root: &SubscriptionId,
    at_stripe: &Subscription,
) -> Result<(Vec<RenewingSlots>, Known)> {
    let mut db = db.connection().await?;
    let tx = db.transaction().await?;
    let prices: Vec<_> = at_stripe.items.data.iter().map(Item::price).collect::<Result<_>>()?;
    let known = prices::store::find(&tx, &prices).await?;
    let interval = interval(&tx, root, at_stripe, &known).await?;
    let slots = store::renewing_slots(&tx, root, interval).await?;
    Ok((slots, known))
}

/// How often the parent is paid: the interval of the item that is not for slots.
async fn interval(
    tx: &Transaction<'_>,
    root: &SubscriptionId,
    at_stripe: &Subscription,
    known: &Known,
) -> Result<Interval> {
    let plans = at_stripe
        .items
        .data
        .iter()
        .find(|item| tier_of(item, known).is_none())
        .and_then(Item::interval);
    match plans {
        Some("month") => Ok(Interval::Month),
        Some("year") => Ok(Interval::Year),
        Some(other) => Err(Error::conflict(
            "unknown_interval",
            format!("{root} is paid by the {other}, and slots are sold by the month or the year"),
        )),
        None => store::interval_of(tx, root).await?.ok_or_else(|| {
            Error::conflict("unknown_interval", format!("how often {root} is paid is unknown"))
        }),
    }
}

fn tier_of(item: &Item, known: &Known) -> Option<i32> {
    prices::model::tier_of(&item.price().ok()?, known)
}

/// What makes the items what is wanted. An item keeps the price that it has, a former one too; a
/// tier that was never ordered here is left alone. Under a hold Stripe's subscription may be behind
/// ours: quantities only fall then.
fn edits(items: &[Item], slots: &[RenewingSlots], known: &Known, held: bool) -> Result<Vec<Edit>> {
    let id = |item: &Item| {
        item.id.clone().ok_or_else(|| stripe::unreadable("a subscription item has no id"))
    };
    let mut edits = Vec::new();
    for RenewingSlots { tier, slots, price } in slots {
        let wanted = u64::try_from(*slots).unwrap_or(0);
        let mut of_tier = items.iter().filter(|item| tier_of(item, known) == Some(*tier));
        match of_tier.next() {
            Some(item) => {
                let now = u64::try_from(item.quantity()).unwrap_or(0);
                let quantity = if held { wanted.min(now) } else { wanted };
                if quantity == 0 {
                    edits.push(Edit::Remove(id(item)?));
                } else if quantity != now {
                    edits.push(Edit::Set(id(item)?, quantity));
                }
            }
            None if wanted == 0 || held => {}
            None => {
                let price = price.clone().ok_or_else(|| {
                    Error::conflict(
                        "tier_not_sold",
                        format!("slots of tier {tier} have no Stripe price to renew by"),
                    )
                })?;
                edits.push(Edit::Add(price, wanted));
            }
        }
        for twin in of_tier {
            edits.push(Edit::Remove(id(twin)?));
        }
    }
    Ok(edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(list: &[(&str, &str, u32)]) -> Vec<Item> {
        let item = |(id, price, quantity): &(&str, &str, u32)| {
            json!({
                "id": id, "price": {"id": price}, "quantity": quantity,
            })
        };
        serde_json::from_value(list.iter().map(item).collect()).expect("items")
    }

    fn price(id: &str) -> StripePriceId {
        StripePriceId::parse(id).expect("an id")
    }

    fn known() -> Known {
        vec![
            (price("slot_1"), PriceOf::Tier(1)),
            (price("slot_2"), PriceOf::Tier(2)),
            (price("slot_2_old"), PriceOf::Tier(2)),
        ]
    }

    fn slots(tier: i32, slots: i64) -> RenewingSlots {
        RenewingSlots { tier, slots, price: Some(price(&format!("slot_{tier}"))) }
    }

    #[test]
    fn items_become_what_is_wanted_and_then_there_is_nothing_left_to_do() {
        let edits = |at_stripe: &[(&str, &str, u32)], wanted: &[RenewingSlots]| {
            edits(&items(at_stripe), wanted, &known(), false).expect("edits")
        };
        let plan = ("si_plan", "plan", 1);
        assert_eq!(edits(&[plan], &[slots(2, 5)]), [Edit::Add(price("slot_2"), 5)]);
        assert_eq!(edits(&[plan, ("si_2", "slot_2", 5)], &[slots(2, 5)]), []);
        assert_eq!(
            edits(&[plan, ("si_2", "slot_2", 5)], &[slots(2, 7)]),
            [Edit::Set("si_2".to_owned(), 7)]
        );
        assert_eq!(
            edits(&[plan, ("si_2", "slot_2", 5)], &[slots(2, 0)]),
            [Edit::Remove("si_2".to_owned())]
        );
        assert_eq!(edits(&[plan], &[slots(2, 0)]), []);
        assert_eq!(
            edits(&[plan, ("si_2", "slot_2_old", 5)], &[slots(2, 6)]),
            [Edit::Set("si_2".to_owned(), 6)],
            "its payers keep a former price"
        );
        let twins =
            edits(&[plan, ("si_2", "slot_2_old", 5), ("si_3", "slot_2", 5)], &[slots(2, 5)]);
        assert_eq!(twins, [Edit::Remove("si_3".to_owned())], "a tier is charged once");
        assert_eq!(
            edits(&[plan, ("si_1", "slot_1", 3)], &[slots(2, 1)]),
            [Edit::Add(price("slot_2"), 1)],
            "what was not ordered here stays"
        );
        assert_eq!(edits(&[plan, ("si_1", "slot_1", 3)], &[]), []);
    }

    #[test]
    fn under_a_hold_quantities_only_fall() {
        let held = |at_stripe: &[(&str, &str, u32)], wanted: i64| {
            edits(&items(at_stripe), &[slots(2, wanted)], &known(), true).expect("edits")
        };
        assert_eq!(held(&[], 5), []);
        assert_eq!(held(&[("si_2", "slot_2", 5)], 7), []);
        assert_eq!(held(&[("si_2", "slot_2", 5)], 3), [Edit::Set("si_2".to_owned(), 3)]);
        assert_eq!(held(&[("si_2", "slot_2", 5)], 0), [Edit::Remove("si_2".to_owned())]);
    }

    #[test]
    fn slots_that_cannot_be_charged_are_for_an_operator() {
        let unsold = RenewingSlots { price: None, ..slots(2, 1) };
        assert_eq!(
            edits(&[], std::slice::from_ref(&unsold), &known(), false).expect_err("refused").code(),
            "tier_not_sold"
        );
        assert_eq!(
            edits(&[], &[RenewingSlots { slots: 0, ..unsold }], &known(), false).expect("edits"),
            []
        );
    }
}
