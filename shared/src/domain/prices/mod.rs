//! Stripe's prices: the plan or tier that each belongs to, and its currency. A price belongs to one
//! of them. A replaced price stays mapped, so subscriptions that pay it still resolve.

pub mod model;
pub(crate) mod store;

use jiff::Timestamp;

use self::model::{Assignment, Interval, Price, PriceOf};
use crate::base::ids::{Currency, StripePriceId};
use crate::db::Transaction;
use crate::{Error, Result};

/// Makes these the present prices of a plan or tier; others that it had become former ones. In the
/// default currency by an interval without a price, nothing is sold at Stripe. `moves`: a plan
/// takes a price from another plan, or from its own other interval.
///
/// # Errors
/// `Conflict`: `price_taken` if a price is another plan's or tier's, or of another interval, and is
/// not moved; `price_currency` if Stripe says that it is in another currency.
pub async fn assign(
    tx: &Transaction,
    of: &PriceOf,
    (default, prices): (&Currency, &[Price]),
    moves: bool,
    now: Timestamp,
) -> Result<Vec<(StripePriceId, Assignment)>> {
    store::lock(tx).await?;
    let further: Vec<&Price> = prices.iter().filter(|price| price.currency != *default).collect();
    store::retire_further(tx, of, &further).await?;
    let mut assigned = Vec::new();
    for interval in [Interval::Month, Interval::Year] {
        let own = model::price_in(prices, default, interval);
        store::retire_others(tx, of, interval, own.and_then(|own| own.stripe_price_id.as_ref()))
            .await?;
        let of_interval = further.iter().copied().filter(|price| price.interval == interval);
        for price in own.into_iter().chain(of_interval) {
            let Some(id) = &price.stripe_price_id else { continue };
            let is_further = price.currency != *default;
            let assignment = assign_one(tx, of, (id, price, is_further), moves, now).await?;
            assigned.push((id.clone(), assignment));
        }
    }
    Ok(assigned)
}

async fn assign_one(
    tx: &Transaction,
    of: &PriceOf,
    (id, price, is_further): (&StripePriceId, &Price, bool),
    moves: bool,
    now: Timestamp,
) -> Result<Assignment> {
    if let Some(currency) = store::read_currency(tx, id).await?
        && currency != price.currency
    {
        let (at_stripe, wanted) = (model::shown(&currency), model::shown(&price.currency));
        let detail =
            format!("Stripe price '{id}' is in {at_stripe} at Stripe, and not in {wanted}");
        return Err(Error::conflict("price_currency", detail));
    }
    match store::make_current(tx, of, (id, price, is_further), now).await? {
        Some(true) => return Ok(Assignment::New),
        Some(false) => return Ok(Assignment::Kept),
        None => {}
    }
    if let (true, PriceOf::Plan(plan)) = (moves, of)
        && let Some(before) = store::find_movable(tx, id, plan).await?
    {
        store::reassign(tx, plan, (id, price, is_further)).await?;
        return Ok(Assignment::Moved(before));
    }
    Err(Error::conflict(
        "price_taken",
        format!(
            "Stripe price '{id}' already belongs to something else, or is paid by another interval"
        ),
    ))
}
