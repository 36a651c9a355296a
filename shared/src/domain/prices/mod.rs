//! Stripe's prices: what each stands for. A price belongs to one thing; a replaced one stays
//! mapped, so that its payers still resolve.

pub(crate) mod store;

use deadpool_postgres::Transaction;
use jiff::Timestamp;

use crate::base::ids::{PlanId, StripePriceId};
use crate::{Error, Result, words};

/// What a price is mapped to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PriceOf {
    /// The plan itself.
    Plan(PlanId),
    /// Slots of this tier.
    Tier(i32),
}

words! {
    /// How often a price is paid.
    pub enum Interval {
        /// By the month.
        Month = "month",
        /// By the year.
        Year = "year",
    }
}

/// The tier whose slots a price is for, by what those in `known` stand for.
#[must_use]
pub(crate) fn tier_of(price: &StripePriceId, known: &[(StripePriceId, PriceOf)]) -> Option<i32> {
    known.iter().find_map(|(id, of)| match of {
        PriceOf::Tier(tier) if id == price => Some(*tier),
        PriceOf::Tier(_) | PriceOf::Plan(_) => None,
    })
}

/// Makes a price the present one of a thing; the one before becomes a former one. None: it is no
/// longer sold at Stripe.
///
/// # Errors
/// `Conflict` (`price_taken`) where the price is another thing's, or of another interval.
pub async fn assign(
    tx: &Transaction<'_>,
    of: &PriceOf,
    interval: Interval,
    price: Option<&StripePriceId>,
    now: Timestamp,
) -> Result<()> {
    store::lock(tx).await?;
    store::retire_others(tx, of, interval, price).await?;
    let Some(price) = price else { return Ok(()) };
    if store::make_current(tx, of, interval, price, now).await? {
        return Ok(());
    }
    Err(Error::conflict(
        "price_taken",
        format!(
            "Stripe price '{price}' already belongs to something else, \
             or is paid by another interval"
        ),
    ))
}
