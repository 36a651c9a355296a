//! Stripe's prices: the plan or tier that each belongs to. A price belongs to one of them. A
//! replaced price stays mapped, so subscriptions that pay it still resolve.

pub mod model;
pub(crate) mod store;

use deadpool_postgres::Transaction;
use jiff::Timestamp;

use self::model::{Interval, PriceOf};
use crate::base::ids::StripePriceId;
use crate::{Error, Result};

/// Makes a price the present one of a plan or tier; the previous one becomes a former one. `None`:
/// it is no longer sold at Stripe. True if the price was not mapped before.
///
/// # Errors
/// `Conflict` (`price_taken`) if the price is another plan's or tier's, or of another interval.
pub async fn assign(
    tx: &Transaction<'_>,
    of: &PriceOf,
    interval: Interval,
    price: Option<&StripePriceId>,
    now: Timestamp,
) -> Result<bool> {
    store::lock(tx).await?;
    store::retire_others(tx, of, interval, price).await?;
    let Some(price) = price else { return Ok(false) };
    store::make_current(tx, of, interval, price, now).await?.ok_or_else(|| {
        Error::conflict(
            "price_taken",
            format!(
                "Stripe price '{price}' already belongs to something else, \
                 or is paid by another interval"
            ),
        )
    })
}
