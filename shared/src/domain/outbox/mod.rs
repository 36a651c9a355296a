//! The outbox: what must happen outside the database, committed with its cause and done after it
//! (docs/events.md, "Outbox").
//!
//! A step is claimed for a time, tried with no transaction open, and then recorded; its effect
//! outside must bear a repetition, because a worker may die between the two.

pub mod model;
pub mod operator;
pub(crate) mod store;

use deadpool_postgres::Transaction;
use jiff::Timestamp;

pub use self::store::{insert_addon_quantity, insert_stripe_cancel, insert_stripe_sync};
use crate::Result;
use crate::domain::families::family::Family;

/// Whichever ADDONs live from now on: what Stripe renews beside the MAIN is to be as much.
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
