//! What Stripe charges for slots at a renewal: as many as the family's ordered ADDONs have, beside
//! those that were bought at Stripe (docs/events.md, "Slots at Stripe").
//!
//! Read, compare, set: a repetition, however late, sets the same quantities. The data is read when
//! the step runs, so one step serves all changes before it. A change while it runs makes it due
//! again (`outbox::store::insert_addon_quantity`).

use serde_json::{Value, json};

use super::model::RenewingSlots;
use super::store;
use crate::base::ids::{Currency, StripePriceId, StripeSubscriptionId, SubscriptionId};
use crate::db::{Db, Transaction};
use crate::domain::families::stripe_slots::{StripeSlots, Target, TierRead};
use crate::domain::prices::model::{Interval, shown};
use crate::domain::prices::store::Known;
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
    let Some(id) = paid_at(db, root).await? else { return Ok(None) };
    let mut at_stripe = stripe.subscription(&id).await?;
    while at_stripe.items.has_more {
        stripe.read_more_items(&mut at_stripe).await?;
    }
    if matches!(at_stripe.status.as_str(), "canceled" | "incomplete_expired") {
        // It no longer charges for anything.
        return Ok(None);
    }
    let Some((edits, targets)) = begin(db, root, &at_stripe).await? else { return Ok(None) };
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
    finish(db, root, &targets).await?;
    let done: Vec<Value> = edits
        .into_iter()
        .map(|edit| match edit {
            Edit::Add(price, quantity) => json!({"price": price, "quantity": quantity}),
            Edit::Set(item, quantity) => json!({"item": item, "quantity": quantity}),
            Edit::Remove(item) => json!({"item": item, "quantity": 0}),
        })
        .collect();
    Ok(Some(json!({"stripe_subscription_id": id, "items": done})))
}

/// The Stripe subscription of a root.
async fn paid_at(db: &Db, root: &SubscriptionId) -> Result<Option<StripeSubscriptionId>> {
    let family = families::locks::find(&db.connection().await?, root).await?;
    Ok(family.and_then(|family| Some(family.root.stripe?.id)))
}

type Targets = Vec<(TierRead, Target)>;

/// Decides what to set, and notes it before it is set: a sync that reads Stripe meanwhile, or after
/// this worker has died, knows whose quantity it sees. None where nothing is to be set.
async fn begin(
    db: &Db,
    root: &SubscriptionId,
    at_stripe: &Subscription,
) -> Result<Option<(Vec<Edit>, Targets)>> {
    let tx = db.begin().await?;
    let family = families::locks::lock(&tx, root).await?.ok_or_else(families::not_found)?;
    let prices: Vec<_> = at_stripe.items.data.iter().map(Item::price).collect::<Result<_>>()?;
    let known = prices::store::find(&tx, &prices).await?;
    let (interval, currency) = paid_in(&tx, root, at_stripe, &known).await?;
    let slots = store::renewing_slots(&tx, root, (interval, &currency)).await?;
    let link = family.root.stripe.as_ref().and_then(|link| link.slots.as_ref());
    let (mut edits, mut targets) = (Vec::new(), Vec::new());
    for renewing in &slots {
        let of_tier: Vec<&Item> = at_stripe
            .items
            .data
            .iter()
            .filter(|item| tier_of(item, &known) == Some(renewing.tier))
            .collect();
        let read = TierRead {
            tier: renewing.tier,
            quantity: quantity(&of_tier),
            ordered: i32::try_from(renewing.slots).unwrap_or(i32::MAX),
            extra: family.slots_of_stripe_items(renewing.tier),
        };
        let target = StripeSlots::target(link, &read, family.root.hold.is_some());
        edits.extend(self::edits(&of_tier, target.quantity, (renewing, &currency))?);
        targets.push((read, target));
    }
    let noted = StripeSlots::begin(link, &targets);
    if link != Some(&noted) && !targets.is_empty() {
        families::rows::save_stripe_slots(&tx, root, &noted).await?;
        tx.commit().await?;
    }
    Ok((!edits.is_empty()).then_some((edits, targets)))
}

/// Notes that it was set.
async fn finish(db: &Db, root: &SubscriptionId, targets: &Targets) -> Result<()> {
    let tx = db.begin().await?;
    let family = families::locks::lock(&tx, root).await?.ok_or_else(families::not_found)?;
    let mut slots = family.root.stripe.and_then(|link| link.slots).unwrap_or_default();
    slots.finish(targets);
    families::rows::save_stripe_slots(&tx, root, &slots).await?;
    tx.commit().await?;
    Ok(())
}

fn quantity(items: &[&Item]) -> i32 {
    items.iter().fold(0, |sum: i32, item| sum.saturating_add(item.quantity()))
}

/// How the parent is paid: by the interval of the item that is not for slots, and in which
/// currency.
async fn paid_in(
    tx: &Transaction,
    root: &SubscriptionId,
    at_stripe: &Subscription,
    known: &Known,
) -> Result<(Interval, Currency)> {
    let (known_interval, known_currency) = store::paid_in(tx, root).await?;
    let currency = at_stripe.currency().unwrap_or(known_currency);
    let plans = at_stripe
        .items
        .data
        .iter()
        .find(|item| tier_of(item, known).is_none())
        .and_then(Item::interval);
    let interval = match plans {
        Some("month") => Ok(Interval::Month),
        Some("year") => Ok(Interval::Year),
        Some(other) => Err(Error::conflict(
            "unknown_interval",
            format!("{root} is paid by the {other}, and slots are sold by the month or the year"),
        )),
        None => known_interval.ok_or_else(|| {
            Error::conflict("unknown_interval", format!("how often {root} is paid is unknown"))
        }),
    };
    Ok((interval?, currency))
}

fn tier_of(item: &Item, known: &Known) -> Option<i32> {
    prices::model::tier_of(&item.price().ok()?, known)
}

/// What makes the items of a tier so many. More is added to the first, which keeps the price that
/// it has, a former one too; fewer are taken from the last.
fn edits(
    items: &[&Item],
    wanted: i32,
    (slots, currency): (&RenewingSlots, &Currency),
) -> Result<Vec<Edit>> {
    let id = |item: &Item| {
        item.id.clone().ok_or_else(|| stripe::unreadable("a subscription item has no id"))
    };
    let count = |quantity: i32| u64::try_from(quantity).unwrap_or(0);
    let now = quantity(items);
    if wanted > now {
        let Some(first) = items.first() else {
            let price = slots.price.clone().ok_or_else(|| {
                Error::conflict(
                    "tier_not_sold",
                    format!(
                        "slots of tier {} have no Stripe price in {} to renew by",
                        slots.tier,
                        shown(currency)
                    ),
                )
            })?;
            return Ok(vec![Edit::Add(price, count(wanted))]);
        };
        let more = first.quantity().saturating_add(wanted - now);
        return Ok(vec![Edit::Set(id(first)?, count(more))]);
    }
    let (mut edits, mut fewer) = (Vec::new(), now - wanted);
    for item in items.iter().rev() {
        let taken = item.quantity().min(fewer);
        fewer -= taken;
        match item.quantity() - taken {
            _ if taken == 0 => {}
            0 => edits.push(Edit::Remove(id(item)?)),
            left => edits.push(Edit::Set(id(item)?, count(left))),
        }
    }
    Ok(edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(at_stripe: &[(&str, u32)], wanted: i32) -> Result<Vec<Edit>> {
        let item = |(id, quantity): &(&str, u32)| json!({"id": id, "price": {"id": "slot"}, "quantity": quantity});
        let items: Vec<Item> =
            serde_json::from_value(at_stripe.iter().map(item).collect()).expect("items");
        let price = StripePriceId::parse("slot").ok();
        let slots = RenewingSlots { tier: 2, slots: 0, price };
        super::edits(&items.iter().collect::<Vec<_>>(), wanted, (&slots, &Currency::usd()))
    }

    #[test]
    fn items_become_what_is_wanted_and_then_there_is_nothing_left_to_do() {
        let (set, remove) = (
            |id: &str, quantity| Edit::Set(id.to_owned(), quantity),
            |id: &str| Edit::Remove(id.to_owned()),
        );
        let price = StripePriceId::parse("slot").expect("an id");
        for (at_stripe, wanted, expected) in [
            (&[][..], 5, vec![Edit::Add(price, 5)]),
            (&[("a", 5)], 5, vec![]),
            (&[("a", 5)], 7, vec![set("a", 7)]),
            (&[("a", 5)], 0, vec![remove("a")]),
            (&[], 0, vec![]),
            (&[("a", 5), ("b", 2)], 9, vec![set("a", 7)]),
            (&[("a", 5), ("b", 2)], 6, vec![set("b", 1)]),
            (&[("a", 5), ("b", 2)], 4, vec![remove("b"), set("a", 4)]),
        ] {
            assert_eq!(edits(at_stripe, wanted).expect("edits"), expected, "{at_stripe:?}");
        }
    }

    #[test]
    fn slots_that_cannot_be_charged_are_for_an_operator() {
        let unsold = RenewingSlots { tier: 2, slots: 1, price: None };
        let edits = |wanted| super::edits(&[], wanted, (&unsold, &Currency::usd()));
        assert_eq!(edits(1).expect_err("refused").code(), "tier_not_sold");
        assert_eq!(edits(0).expect("edits"), []);
    }
}
