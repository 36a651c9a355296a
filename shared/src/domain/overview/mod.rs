//! What operators look at first: how much of what waits for them (docs/operations.md, "Overview").

pub mod model;
mod store;

use futures::try_join;
use jiff::Timestamp;

use self::model::Overview;
use crate::Result;
use crate::db::Db;
use crate::domain::renewals::operator;

/// Everything in numbers at this moment, in two round trips.
///
/// # Errors
/// `Database`.
pub async fn get(db: &Db, now: Timestamp) -> Result<Overview> {
    let at = db.connection().await?;
    let (flags, events, steps, subscriptions, ending, counted_by_hand, last_run, breaker) = try_join!(
        store::flags(&at),
        store::events(&at),
        store::steps(&at, now),
        store::subscriptions(&at),
        store::ending(&at, now),
        store::counted_by_hand(&at),
        operator::last_run(&at),
        operator::breaker_on(&at, now)
    )?;
    Ok(Overview {
        flags,
        events,
        steps,
        subscriptions,
        ending,
        counted_by_hand,
        last_run,
        breaker,
        counted_at: now,
    })
}
