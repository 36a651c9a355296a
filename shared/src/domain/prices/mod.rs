//! Stripe's prices: the plan or tier that each belongs to. A price belongs to one of them. A
//! replaced price stays mapped, so subscriptions that pay it still resolve.

pub mod model;
pub(crate) mod store;

use deadpool_postgres::Transaction;
use jiff::Timestamp;

use self::model::{Assignment, Interval, PriceOf};
use crate::base::ids::StripePriceId;
use crate::{Error, Result};

/// Makes a price the present one of a plan or tier; the previous one becomes a former one. `None`:
/// it is no longer sold at Stripe. `moves`: a plan takes it from another plan, or from its own other
/// interval.
///
/// # Errors
/// `Conflict` (`price_taken`) if the price is another plan's or tier's, or of another interval, and
/// is not moved.
pub async fn assign(
    tx: &Transaction<'_>,
    of: &PriceOf,
    interval: Interval,
    price: Option<&StripePriceId>,
    moves: bool,
    now: Timestamp,
) -> Result<Assignment> {
    store::lock(tx).await?;
    store::retire_others(tx, of, interval, price).await?;
    let Some(price) = price else { return Ok(Assignment::Kept) };
    match store::make_current(tx, of, interval, price, now).await? {
        Some(true) => return Ok(Assignment::New),
        Some(false) => return Ok(Assignment::Kept),
        None => {}
    }
    if let (true, PriceOf::Plan(plan)) = (moves, of)
        && let Some(before) = store::find_movable(tx, price, plan).await?
    {
        store::reassign(tx, price, plan, interval).await?;
        return Ok(Assignment::Moved(before));
    }
    Err(Error::conflict(
        "price_taken",
        format!(
            "Stripe price '{price}' already belongs to something else, \
             or is paid by another interval"
        ),
    ))
}
