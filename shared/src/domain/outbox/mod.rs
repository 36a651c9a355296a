//! The outbox: what must happen outside the database, committed with its cause and done after it
//! (docs/events.md, "Outbox").
//!
//! A worker claims a step under a lease, performs it with no transaction open, and records it. The
//! effect outside must be idempotent, because a worker may die before it records.

pub mod model;
pub mod operator;
pub(crate) mod store;

use jiff::Timestamp;

pub use self::store::{insert_addon_quantity, insert_stripe_cancel, insert_stripe_sync};
use crate::Result;
use crate::base::ids::Currency;
use crate::db::Transaction;
use crate::domain::families::family::Family;
use crate::domain::prices;
use crate::domain::prices::model::{Assignment, Mapping, Price, PriceOf};

/// Maps the prices of a plan or tier, as `prices::assign` does, and has the subscriptions that pay
/// by one read again if it was another thing's before, or nothing's. Returns what those stood for
/// that were moved.
///
/// # Errors
/// As `prices::assign`.
pub(crate) async fn map_prices(
    tx: &Transaction,
    of: &PriceOf,
    (default, listed): (&Currency, &[Price]),
    moves: bool,
    now: Timestamp,
) -> Result<Vec<Mapping>> {
    let mut taken = Vec::new();
    for (price, assigned) in prices::assign(tx, of, (default, listed), moves, now).await? {
        if assigned != Assignment::Kept {
            store::insert_stripe_syncs(tx, &price, now).await?;
        }
        if let Assignment::Moved(before) = assigned {
            taken.push(before);
        }
    }
    Ok(taken)
}

/// Has Stripe charge for the slots of the ADDONs that are live from now on.
pub(crate) async fn charge_for_slots(
    tx: &Transaction,
    family: &Family,
    now: Timestamp,
) -> Result<()> {
    if !family.addons.is_empty() {
        insert_addon_quantity(tx, &family.root, now).await?;
    }
    Ok(())
}
