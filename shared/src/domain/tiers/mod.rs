//! Device tiers: feature bundles for one device, and the price of an extra slot.

pub mod customer;
pub mod model;
pub mod operator;
pub(crate) mod store;

use deadpool_postgres::Transaction;

use self::model::Tier;
use crate::base::error::{Error, Result};

/// A tier that is on offer.
pub(crate) async fn active(tx: &Transaction<'_>, id: i32) -> Result<Tier> {
    let tier = store::find(tx, id).await?.filter(|tier| tier.is_active);
    tier.ok_or_else(|| Error::not_found("tier_not_found", "Device tier not found or inactive"))
}
