//! The tiers that customers see.

use super::model::OfferedTier;
use super::store;
use crate::base::caller::Customer;
use crate::base::error::Result;
use crate::base::paging::{Page, Slice};
use crate::db::Db;
use crate::domain::tenants::session::begin;

/// A page of the tiers that a device can get, as customers see them.
///
/// # Errors
/// `Database`.
pub async fn offered(
    db: &Db,
    caller: &Customer,
    page: &Page<(i32, i32)>,
) -> Result<Slice<OfferedTier>> {
    let tx = begin(db, &caller.tenant).await?;
    let (tiers, ()) = futures::try_join!(store::list(&tx, page, true), tx.close())?;
    let slice = page.cut(tiers, |tier| (tier.sort_order, tier.tier_id));
    Ok(Slice {
        items: slice.items.into_iter().map(OfferedTier::from).collect(),
        next_cursor: slice.next_cursor,
    })
}
