//! What operators ask of the run and tell it.

pub mod model;
mod store;

use jiff::Timestamp;
use serde_json::json;

use self::model::{BreakerApproval, NewBreakerApproval, RunRow};
use crate::Result;
use crate::base::caller::Person;
use crate::base::paging::{Page, Slice};
use crate::db::Db;
use crate::domain::audit::model::{Actor, Entry};
use crate::domain::idempotency::model::Key;
use crate::domain::{audit, idempotency};

/// A page of runs, newest first.
///
/// # Errors
/// `Database`.
pub async fn runs(db: &Db, page: &Page<(Timestamp, i64)>) -> Result<Slice<RunRow>> {
    let rows = store::runs(&db.connection().await?, page).await?;
    Ok(page.cut(rows, |row| (row.started_at, row.run_id)))
}

/// Lets the next runs do what the breaker stopped: until then, and to so many. A later word
/// replaces an earlier one.
///
/// # Errors
/// `Invalid`; those of the idempotency key.
pub async fn approve(
    db: &Db,
    by: &Person,
    key: Option<&Key>,
    approval: NewBreakerApproval,
    now: Timestamp,
) -> Result<BreakerApproval> {
    let mut db = db.connection().await?;
    let tx = db.transaction().await?;
    if let Some(made) = idempotency::earlier(&tx, key, now).await? {
        return Ok(made);
    }
    approval.check(now)?;
    let made = store::insert_approval(&tx, by, &approval, now).await?;
    let entry = Entry {
        new_state: Some(json!(made)),
        ..Entry::new("RENEWAL_BREAKER_APPROVED", Actor::Operator(by), now)
    };
    audit::store::insert(&tx, &entry).await?;
    idempotency::keep(&tx, key, &made, now).await?;
    tx.commit().await?;
    Ok(made)
}
