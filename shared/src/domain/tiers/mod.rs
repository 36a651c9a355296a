//! Device tiers: feature bundles for one device, and the price of an extra slot.

pub mod customer;
pub mod model;
pub mod operator;
pub(crate) mod store;

use self::model::Tier;
use crate::base::error::{Error, Result};
use crate::db::Transaction;

/// A tier that is on offer.
pub(crate) async fn active(tx: &Transaction, id: i32) -> Result<Tier> {
    let tier = store::find(tx, id).await?.filter(|tier| tier.is_active);
    tier.ok_or_else(|| Error::not_found("tier_not_found", "Device tier not found or inactive"))
}
