//! What a customer asks of the run: what it will do with their own subscriptions.

use futures::try_join;
use jiff::{SignedDuration, Timestamp};

use super::model::{Forecast, Upcoming};
use super::store;
use crate::base::caller::Customer;
use crate::base::error::Result;
use crate::base::ids::SubscriptionId;
use crate::base::paging::{Page, Slice};
use crate::db::Db;
use crate::domain::tenants::session::begin;

/// Later than any term ends.
const HORIZON: SignedDuration = SignedDuration::from_hours(24 * 365 * 100);

/// What will happen by itself to the own subscriptions, the first first.
///
/// # Errors
/// `Database`.
pub async fn upcoming(
    db: &Db,
    caller: &Customer,
    page: &Page<(Timestamp, SubscriptionId)>,
    now: Timestamp,
) -> Result<Slice<Upcoming>> {
    let tx = begin(db, &caller.tenant).await?;
    let all = store::forecast(&tx, now + HORIZON, Some(&caller.tenant), None, page);
    let (rows, ()) = try_join!(all, tx.close())?;
    let Slice { items, next_cursor } = page.cut(Forecast::all(rows, now), Forecast::key);
    Ok(Slice { items: items.into_iter().map(Upcoming::from).collect(), next_cursor })
}
