//! The rate at which all functions together read Stripe (docs/events.md, "Reads").

use std::time::Duration;

use super::store;
use crate::base::error::Service;
use crate::db::Db;
use crate::{Error, Result};

/// A read that would have to wait longer than this is left to the queue's redelivery, or to whoever
/// asks again.
const MAX_WAIT: Duration = Duration::from_secs(8);

/// Waits for the moment that the next read of Stripe may have, with no connection held; a rate of 0
/// is none.
///
/// # Errors
/// `Upstream` where that is too far; `Database`.
pub(super) async fn wait(db: &Db, reads_per_second: i32) -> Result<()> {
    if reads_per_second == 0 {
        return Ok(());
    }
    let wait =
        Duration::from_secs_f64(store::book_read(&db.connection().await?, reads_per_second).await?);
    if wait > MAX_WAIT {
        return Err(Error::unavailable(
            Service::Stripe,
            format!("reads are at their rate of {reads_per_second} a second"),
        ));
    }
    tokio::time::sleep(wait).await;
    Ok(())
}
