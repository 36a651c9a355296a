//! `stripe_events`.

use jiff::Timestamp;
use tokio_postgres::{Client, Row, Transaction};

use super::model::{Envelope, EventStatus};
use crate::Result;
use crate::ids::{StripeCustomerId, StripeEventId, StripeSessionId, TenantId};

/// What is recorded of an event, if anything.
pub async fn status(db: &Client, id: &StripeEventId) -> Result<Option<EventStatus>> {
    let row = db.query_opt("SELECT status FROM stripe_events WHERE event_id = $1", &[&id.as_str()]).await?;
    row.map(|row| EventStatus::parse(row.get(0))).transpose()
}

/// Makes this transaction the only one that applies events of this customer, whoever else does so (queue, replay, backfill): what the
/// rules find out about a customer who has no row yet stays true until the commit.
pub async fn lock_customer(tx: &Transaction<'_>, customer: Option<&StripeCustomerId>, event: &StripeEventId) -> Result<()> {
    let key = customer.map_or(event.as_str(), StripeCustomerId::as_str);
    tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&key]).await?;
    Ok(())
}

/// Inserts or locks the event's row, and returns what it said before this transaction.
///
/// Two deliveries of one event meet here: the second waits for the first one's commit, and then reads its outcome.
pub async fn claim(tx: &Transaction<'_>, event: &Envelope, customer: Option<&StripeCustomerId>, now: Timestamp) -> Result<Option<EventStatus>> {
    let inserted = tx
        .execute(
            "INSERT INTO stripe_events (event_id, event_type, api_version, livemode, created_at, customer_id, object_id, status, payload, recorded_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 'waiting', $8, $9, $9)
             ON CONFLICT (event_id) DO NOTHING",
            &[
                &event.id.as_str(),
                &event.event_type,
                &event.api_version,
                &event.livemode,
                &event.created,
                &customer.map(StripeCustomerId::as_str),
                &event.object_id(),
                &(!event.slim).then(|| stored(&event.object)),
                &now,
            ],
        )
        .await?;
    if inserted == 1 {
        return Ok(None);
    }
    let row = tx.query_one("SELECT status FROM stripe_events WHERE event_id = $1 FOR UPDATE", &[&event.id.as_str()]).await?;
    EventStatus::parse(row.get(0)).map(Some)
}

/// Notes that a redelivered event is tried once more, and returns how many tries came to no word, this one included.
///
/// A commit of its own, before the try: a consumer that dies cannot note it after.
pub async fn begin_again(db: &mut Client, event: &Envelope, now: Timestamp) -> Result<i32> {
    let tx = db.transaction().await?;
    claim(&tx, event, event.customer().as_ref(), now).await?;
    let count = "UPDATE stripe_events SET lost_tries = lost_tries + 1, updated_at = $2 WHERE event_id = $1 RETURNING lost_tries";
    let lost: i32 = tx.query_one(count, &[&event.id.as_str(), &now]).await?.get(0);
    tx.commit().await?;
    Ok(lost)
}

/// Notes a try that failed for a reason that may pass: it came to a word, so its consumer lives.
pub async fn record_transient(db: &mut Client, event: &Envelope, error: &str, now: Timestamp) -> Result<()> {
    let tx = db.transaction().await?;
    claim(&tx, event, event.customer().as_ref(), now).await?;
    tx.execute(
        "UPDATE stripe_events SET lost_tries = 0, transient_errors = transient_errors + 1, last_error = $2, updated_at = $3
         WHERE event_id = $1 AND status IN ('waiting', 'failed')",
        &[&event.id.as_str(), &error, &now],
    )
    .await?;
    tx.commit().await?;
    Ok(())
}

/// Locks an event that a person works on; none where it is not recorded.
pub async fn lock(tx: &Transaction<'_>, id: &StripeEventId) -> Result<Option<Row>> {
    let sql = "SELECT event_type, api_version, livemode, created_at, customer_id, object_id, tenant_id, status, status_reason, payload, replays
               FROM stripe_events WHERE event_id = $1 FOR UPDATE";
    Ok(tx.query_opt(sql, &[&id.as_str()]).await?)
}

/// Counts a replay.
pub async fn count_replay(tx: &Transaction<'_>, id: &StripeEventId, now: Timestamp) -> Result<()> {
    tx.execute("UPDATE stripe_events SET replays = replays + 1, updated_at = $2 WHERE event_id = $1", &[&id.as_str(), &now]).await?;
    Ok(())
}

/// `PostgreSQL`'s jsonb has no NUL character. The copy here is for a person to read, so losing it costs nothing.
fn stored(object: &serde_json::Value) -> serde_json::Value {
    let text = object.to_string();
    if text.contains("\\u0000") { serde_json::from_str(&text.replace("\\u0000", "")).unwrap_or_default() } else { object.clone() }
}

/// Records the outcome.
pub async fn finish(
    tx: &Transaction<'_>,
    id: &StripeEventId,
    status: EventStatus,
    reason: Option<&str>,
    tenant: Option<&TenantId>,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "UPDATE stripe_events SET status = $2, status_reason = $3, tenant_id = coalesce($4, tenant_id), lost_tries = 0, updated_at = $5 WHERE event_id = $1",
        &[&id.as_str(), &status.as_str(), &reason, &tenant.map(TenantId::as_str), &now],
    )
    .await?;
    Ok(())
}

/// Ends the wait of the other events of a checkout, now that its outcome is known.
pub async fn finish_waiting_checkout(
    tx: &Transaction<'_>,
    session: &StripeSessionId,
    status: EventStatus,
    reason: &str,
    tenant: Option<&TenantId>,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "UPDATE stripe_events SET status = $2, status_reason = $3, tenant_id = coalesce($4, tenant_id), updated_at = $5
         WHERE object_id = $1 AND status = 'waiting' AND event_type LIKE 'checkout.session.%'",
        &[&session.as_str(), &status.as_str(), &reason, &tenant.map(TenantId::as_str), &now],
    )
    .await?;
    Ok(())
}

/// Whether Stripe has said that the asynchronous payment of this checkout failed.
pub async fn payment_failed(tx: &Transaction<'_>, session: &StripeSessionId) -> Result<bool> {
    let row = tx
        .query_one(
            "SELECT EXISTS (SELECT FROM stripe_events WHERE object_id = $1 AND event_type = 'checkout.session.async_payment_failed' AND status = 'applied')",
            &[&session.as_str()],
        )
        .await?;
    Ok(row.get(0))
}
