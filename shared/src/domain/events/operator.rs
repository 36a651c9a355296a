//! What an operator does with a recorded event: reads it, replays it, or dismisses it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::model::{EventDetail, EventFilter, EventRow, EventStatus};
use super::store;
use super::store::LockedEvent;
use crate::base::caller::Person;
use crate::base::ids::StripeEventId;
use crate::base::paging::{Page, Slice};
use crate::db::{Db, Transaction};
use crate::domain::audit;
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::outside::queue::Queue;
use crate::{Error, Result};

/// A page of events, the one recorded last first.
///
/// # Errors
/// `Database`.
pub async fn list(
    db: &Db,
    filter: &EventFilter,
    page: &Page<(Timestamp, StripeEventId)>,
) -> Result<Slice<EventRow>> {
    let rows = store::list(&db.connection().await?, filter, page).await?;
    Ok(page.cut(rows, |row| (row.recorded_at, row.event_id.clone())))
}

/// An event with its object.
///
/// # Errors
/// `stripe_event_not_found`.
pub async fn find(db: &Db, id: &StripeEventId) -> Result<EventDetail> {
    store::find(&db.connection().await?, id).await?.ok_or_else(not_found)
}

/// Puts a waiting or failed event on the queue again, after its cause was mended.
///
/// The count of replays commits before the message is sent, and is part of its deduplication id: a
/// replay is never dropped by the queue as a duplicate, and one whose send failed is simply asked
/// for again.
///
/// # Errors
/// `stripe_event_not_found`; `Conflict` (`event_final`); `Upstream` of the queue.
pub async fn replay(
    db: &Db,
    queue: &Queue,
    id: &StripeEventId,
    operator: &Person,
    now: Timestamp,
) -> Result<EventDetail> {
    let message = {
        // The connection goes back before the message is sent.
        let tx = db.begin().await?;
        let LockedEvent { event, envelope } = lock_open(&tx, id).await?;
        let replay = event.replays + 1;
        store::count_replay(&tx, id, now).await?;
        let details = json!({"replay": replay});
        record(&tx, AuditEvent::StripeEventReplayed, &event, details, operator, now).await?;
        tx.commit().await?;
        envelope.replay_message(replay)
    };
    queue.send(message).await?;
    find(db, id).await
}

/// Ends a waiting or failed event that needs nothing.
///
/// # Errors
/// `stripe_event_not_found`; `Conflict` (`event_final`).
pub async fn dismiss(
    db: &Db,
    id: &StripeEventId,
    note: &str,
    operator: &Person,
    now: Timestamp,
) -> Result<EventDetail> {
    let tx = db.begin().await?;
    let LockedEvent { event, .. } = lock_open(&tx, id).await?;
    store::finish(&tx, id, EventStatus::Dismissed, Some(note), None, now).await?;
    let details = json!({"note": note});
    record(&tx, AuditEvent::StripeEventDismissed, &event, details, operator, now).await?;
    let event = store::find(&tx, id).await?.ok_or_else(not_found)?;
    tx.commit().await?;
    Ok(event)
}

fn not_found() -> Error {
    Error::not_found("stripe_event_not_found", "Stripe event not found")
}

async fn lock_open(tx: &Transaction, id: &StripeEventId) -> Result<LockedEvent> {
    let locked = store::lock(tx, id).await?.ok_or_else(not_found)?;
    let status = locked.event.status;
    if status.is_final() {
        return Err(Error::conflict(
            "event_final",
            format!("Stripe event is already {}", status.as_str()),
        ));
    }
    Ok(locked)
}

async fn record(
    tx: &Transaction,
    event_type: AuditEvent,
    event: &EventRow,
    details: Value,
    operator: &Person,
    now: Timestamp,
) -> Result<()> {
    let before = json!({"status": event.status, "reason": event.status_reason});
    let entry = Entry {
        tenant: event.tenant_id.as_ref(),
        stripe_event: Some(&event.event_id),
        previous_state: Some(before),
        details: Some(details),
        ..Entry::new(event_type, Actor::Operator(operator), now)
    };
    audit::store::insert(tx, &entry).await
}
