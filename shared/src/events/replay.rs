//! What a person does with a recorded event: have it applied again, or say that it needs nothing.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Row;

use super::model::EventStatus;
use super::store;
use crate::audit::{self, Actor, Entry, Person};
use crate::db::Db;
use crate::ids::{StripeEventId, TenantId};
use crate::queue::Queue;
use crate::{Error, Result};

/// Puts a waiting or failed event on the queue again, after its cause was mended.
///
/// The count of replays commits before the message is sent, and is part of its deduplication id: a replay is never dropped by the queue
/// as a duplicate, and one whose send failed is simply asked for again.
///
/// # Errors
/// `Conflict`: `no_such_event`, `event_final`; `Upstream` of the queue.
pub async fn replay(db: &Db, queue: &Queue, id: &StripeEventId, operator: &Person, now: Timestamp) -> Result<()> {
    let mut db = db.connection().await?;
    let tx = db.transaction().await?;
    let (row, status) = lock_open(&tx, id).await?;
    let replay = row.get::<_, i32>("replays") + 1;
    store::count_replay(&tx, id, now).await?;
    record(&tx, "STRIPE_EVENT_REPLAYED", id, &row, status, json!({"replay": replay}), operator, now).await?;
    tx.commit().await?;
    queue.send(store::envelope(&row)?.replay_message(replay)).await
}

/// Ends a waiting or failed event that needs nothing.
///
/// # Errors
/// `Conflict`: `no_such_event`, `event_final`.
pub async fn dismiss(db: &Db, id: &StripeEventId, note: &str, operator: &Person, now: Timestamp) -> Result<()> {
    let mut db = db.connection().await?;
    let tx = db.transaction().await?;
    let (row, status) = lock_open(&tx, id).await?;
    store::finish(&tx, id, EventStatus::Dismissed, Some(note), None, now).await?;
    record(&tx, "STRIPE_EVENT_DISMISSED", id, &row, status, json!({"note": note}), operator, now).await?;
    tx.commit().await?;
    Ok(())
}

async fn lock_open(tx: &Transaction<'_>, id: &StripeEventId) -> Result<(Row, EventStatus)> {
    let row = store::lock(tx, id).await?.ok_or_else(|| Error::conflict("no_such_event", format!("event {id} is not recorded")))?;
    let status = EventStatus::parse(row.get("status"))?;
    if status.is_final() {
        return Err(Error::conflict("event_final", format!("event {id} is {} already", status.as_str())));
    }
    Ok((row, status))
}

#[expect(clippy::too_many_arguments, reason = "one audit row")]
async fn record(
    tx: &Transaction<'_>,
    event_type: &'static str,
    id: &StripeEventId,
    row: &Row,
    status: EventStatus,
    details: Value,
    operator: &Person,
    now: Timestamp,
) -> Result<()> {
    let tenant = row.get::<_, Option<&str>>("tenant_id").map(TenantId::parse).transpose()?;
    let entry = Entry {
        tenant: tenant.as_ref(),
        stripe_event: Some(id),
        previous_state: Some(json!({"status": status.as_str(), "reason": row.get::<_, Option<&str>>("status_reason")})),
        details: Some(details),
        ..Entry::new(event_type, Actor::Operator(operator), now)
    };
    audit::store::insert(tx, &entry).await
}
