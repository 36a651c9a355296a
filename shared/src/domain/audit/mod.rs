//! The append-only audit trail: one row per changed object, none for a no-op, in the transaction of
//! the change.

pub mod model;
pub(crate) mod store;

use jiff::Timestamp;
use serde_json::Value;

use self::model::{Actor, AuditEvent, AuditFilter, AuditRow, Entry};
use crate::Result;
use crate::base::caller::Person;
use crate::base::paging::{Page, Slice};
use crate::db::{Db, Transaction};

/// A page of the trail, newest first.
///
/// # Errors
/// `Database`.
pub async fn list(
    db: &Db,
    filter: &AuditFilter,
    page: &Page<(Timestamp, i64)>,
) -> Result<Slice<AuditRow>> {
    let rows = store::list(&db.connection().await?, filter, page).await?;
    Ok(page.cut(rows, |row| (row.event_timestamp, row.id)))
}

/// Records an operator's change of the catalogue, which belongs to no tenant.
pub(crate) async fn record_catalogue(
    tx: &Transaction,
    event_type: AuditEvent,
    by: &Person,
    previous_state: Option<Value>,
    new_state: Value,
    now: Timestamp,
) -> Result<()> {
    let entry = Entry {
        previous_state,
        new_state: Some(new_state),
        ..Entry::new(event_type, Actor::Operator(by), now)
    };
    store::insert(tx, &entry).await
}

/// How many months of audit partitions are kept ahead.
pub const AUDIT_MONTHS_AHEAD: i32 = 12;
