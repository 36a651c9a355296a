//! The outbox: what must happen outside the database, committed with its cause and done after it
//! (docs/events.md, "Outbox").
//!
//! A worker claims a step under a lease, performs it with no transaction open, and records it. The
//! effect outside must be idempotent, because a worker may die before it records.

pub mod model;
pub mod operator;
pub(crate) mod store;

use deadpool_postgres::Transaction;
use jiff::Timestamp;

pub use self::store::{insert_addon_quantity, insert_stripe_cancel, insert_stripe_sync};
use crate::Result;
use crate::base::ids::StripePriceId;
use crate::domain::families::family::Family;
use crate::domain::prices;
use crate::domain::prices::model::{Assignment, Interval, PriceOf};

/// Maps a price, if there is one, as `prices::assign` does, and has the subscriptions that pay by it
/// read again if it was another thing's before, or nothing's.
///
/// # Errors
/// As `prices::assign`.
pub(crate) async fn map_price(
    tx: &Transaction<'_>,
    of: &PriceOf,
    interval: Interval,
    price: Option<&StripePriceId>,
    moves: bool,
    now: Timestamp,
) -> Result<Assignment> {
    let assigned = prices::assign(tx, of, interval, price, moves, now).await?;
    if let Some(price) = price.filter(|_| assigned != Assignment::Kept) {
        store::insert_stripe_syncs(tx, price, now).await?;
    }
    Ok(assigned)
}

/// Has Stripe charge for the slots of the ADDONs that are live from now on.
pub(crate) async fn charge_for_slots(
    tx: &Transaction<'_>,
    family: &Family,
    now: Timestamp,
) -> Result<()> {
    if !family.addons.is_empty() {
        insert_addon_quantity(tx, &family.root, now).await?;
    }
    Ok(())
}
