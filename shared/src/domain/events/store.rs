//! `stripe_events`.

use std::collections::HashSet;

use futures::future::try_join;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::kind::EventKind;
use super::model::{Envelope, EventDetail, EventFilter, EventRow, EventStatus};
use crate::Result;
use crate::base::ids::{
    StripeCustomerId, StripeEventId, StripeSessionId, StripeSubscriptionId, TenantId,
};
use crate::base::paging::Page;
use crate::db::{
    Conditions, Db, Executor, Fields, Transaction, execute, query, query_one, query_opt,
    query_planned,
};

/// The recorded status of an event, if it has one.
pub(super) async fn status(db: &impl Executor, id: &StripeEventId) -> Result<Option<EventStatus>> {
    let row = query_opt(db, "SELECT status FROM stripe_events WHERE event_id = $1", &[&id]).await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

const LOCKED_STATUS: &str = "SELECT status FROM stripe_events WHERE event_id = $1 FOR UPDATE";

/// Inserts or locks the event's row, and returns what it said before this transaction. Two
/// deliveries of one event meet here: the second waits for the first one's commit, and then reads
/// its outcome.
///
/// It makes this transaction the only one that applies events of this customer, whoever else does
/// so (queue, replay, backfill): what the rules find out about a customer who has no row yet stays
/// true until the commit.
pub(super) async fn claim_for_customer(
    tx: &Transaction,
    event: &Envelope,
    customer: Option<&StripeCustomerId>,
    now: Timestamp,
) -> Result<Option<EventStatus>> {
    // In one statement: a round trip less. It finds a row that another delivery commits while it
    // waits for the lock, as ON CONFLICT does.
    let first = "FROM (SELECT pg_advisory_xact_lock(hashtextextended(coalesce($6, $1),
                 0)) OFFSET 0) locked";
    if insert(tx, first, "DO NOTHING", event, customer, (EventStatus::Waiting, None, None), now)
        .await?
        == 1
    {
        return Ok(None);
    }
    let row = query_one(tx, LOCKED_STATUS, &[&event.id]).await?;
    Ok(Some(row.try_get(0)?))
}

/// Makes this transaction the only one of the event's customer, as `claim_for_customer` does, and
/// returns what is recorded of the event. The row of a new one is left to `record`: written once
/// and not twice, to each of its indexes.
pub(super) async fn lock_customer(
    tx: &Transaction,
    event: &Envelope,
) -> Result<Option<EventStatus>> {
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    let (customer, id) = (event.customer(), event.id.as_str());
    let key = customer.as_ref().map_or(id, StripeCustomerId::as_str);
    // In one round trip. The lock is sent first, and the row is read after it: as the holder before
    // left it.
    let (_, row) =
        try_join(execute(tx, lock, &[&key]), query_opt(tx, LOCKED_STATUS, &[&id])).await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

/// Records the outcome of an event, whose row may be there or not, without a wait. Where another
/// delivery has made it final meanwhile, this one's work must not be committed: then the status is
/// no status, which the table refuses (`db::wrote_null`).
pub(super) async fn record_once(
    tx: &Transaction,
    event: &Envelope,
    status: EventStatus,
    reason: Option<&str>,
    tenant: Option<&TenantId>,
    now: Timestamp,
) -> Result<()> {
    let update = "DO UPDATE SET status = CASE WHEN e.status IN ('waiting', 'failed')
                  THEN excluded.status END, status_reason = excluded.status_reason,
                  tenant_id = coalesce(excluded.tenant_id, e.tenant_id), lost_tries = 0,
                  updated_at = excluded.updated_at";
    let customer = event.customer();
    let outcome = (status, reason, tenant);
    let (sql, values) = insertion("", update, event, customer.as_ref(), outcome, now);
    tx.write(&sql, &refs(&values)).await
}

/// Records the outcome of an event, whose row may be there or not. False where another delivery has
/// made it final meanwhile.
pub(super) async fn record(
    tx: &Transaction,
    event: &Envelope,
    status: EventStatus,
    reason: Option<&str>,
    tenant: Option<&TenantId>,
    now: Timestamp,
) -> Result<bool> {
    let update = "DO UPDATE SET status = excluded.status, status_reason = excluded.status_reason,
                  tenant_id = coalesce(excluded.tenant_id, e.tenant_id), lost_tries = 0,
                  updated_at = excluded.updated_at
                  WHERE e.status IN ('waiting', 'failed')";
    Ok(insert(tx, "", update, event, event.customer().as_ref(), (status, reason, tenant), now)
        .await?
        == 1)
}

async fn insert(
    tx: &Transaction,
    first: &str,
    on_conflict: &str,
    event: &Envelope,
    customer: Option<&StripeCustomerId>,
    outcome: (EventStatus, Option<&str>, Option<&TenantId>),
    now: Timestamp,
) -> Result<u64> {
    let (sql, values) = insertion(first, on_conflict, event, customer, outcome, now);
    execute(tx, &sql, &refs(&values)).await
}

type Values<'a> = Vec<Box<dyn ToSql + Sync + Send + 'a>>;

fn refs<'a>(values: &'a Values<'_>) -> Vec<&'a (dyn ToSql + Sync)> {
    values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
}

fn insertion<'a>(
    first: &str,
    on_conflict: &str,
    event: &'a Envelope,
    customer: Option<&'a StripeCustomerId>,
    (status, reason, tenant): (EventStatus, Option<&'a str>, Option<&'a TenantId>),
    now: Timestamp,
) -> (String, Values<'a>) {
    let sql = format!(
        "INSERT INTO stripe_events AS e (event_id, event_type, api_version, livemode, created_at,
         customer_id, object_id, stripe_subscription_id, payload, recorded_at, updated_at, status,
         status_reason, tenant_id)
         SELECT $1::text, $2::text, $3::text, $4::boolean, $5::timestamptz, $6::text, $7::text,
         $8::text, $9::jsonb, $10::timestamptz, $10, $11::text, $12::text, $13::text {first}
         ON CONFLICT (event_id) {on_conflict}"
    );
    let values: Values<'a> = vec![
        Box::new(&event.id),
        Box::new(&event.event_type),
        Box::new(&event.api_version),
        Box::new(&event.livemode),
        Box::new(&event.created),
        Box::new(customer),
        Box::new(event.object_id()),
        // Malformed ones are recorded as well: their handler says what is wrong.
        Box::new(event.subscription().ok().flatten()),
        Box::new((!event.slim).then(|| stored(&event.object))),
        Box::new(now),
        Box::new(status),
        Box::new(reason),
        Box::new(tenant),
    ];
    (sql, values)
}

/// Makes sure that the event has a row.
async fn ensure_row(tx: &Transaction, event: &Envelope, now: Timestamp) -> Result<()> {
    insert(
        tx,
        "",
        "DO NOTHING",
        event,
        event.customer().as_ref(),
        (EventStatus::Waiting, None, None),
        now,
    )
    .await
    .map(drop)
}

/// Counts an attempt at a redelivered event, and returns how many have crashed, this one included
/// until it ends.
///
/// A commit of its own, before the attempt: a consumer that dies cannot count it after.
pub(super) async fn count_attempt(db: &Db, event: &Envelope, now: Timestamp) -> Result<i32> {
    let tx = db.begin().await?;
    ensure_row(&tx, event, now).await?;
    let count = "UPDATE stripe_events SET lost_tries = lost_tries + 1, updated_at = $2
                 WHERE event_id = $1 RETURNING lost_tries";
    let lost: i32 = query_one(&tx, count, &[&event.id, &now]).await?.get(0);
    tx.commit().await?;
    Ok(lost)
}

/// Records an attempt that failed with a transient error: its consumer lives.
pub(super) async fn record_transient(
    db: &Db,
    event: &Envelope,
    error: &str,
    now: Timestamp,
) -> Result<()> {
    let tx = db.begin().await?;
    ensure_row(&tx, event, now).await?;
    tx.write(
        "UPDATE stripe_events SET lost_tries = 0, transient_errors = transient_errors + 1,
         last_error = $2, updated_at = $3
         WHERE event_id = $1 AND status IN ('waiting', 'failed')",
        &[&event.id, &error, &now],
    )
    .await?;
    tx.commit().await?;
    Ok(())
}

const EVENT: &str = "e.event_id, e.event_type, e.status, e.status_reason, e.customer_id,
       e.tenant_id, e.stripe_subscription_id, e.object_id, e.api_version, e.livemode, e.lost_tries,
       e.transient_errors, e.last_error, e.replays, e.created_at, e.recorded_at, e.updated_at";

fn event(row: &Row) -> Result<EventRow> {
    let mut fields = Fields::of(row);
    Ok(EventRow {
        event_id: fields.get("event_id")?,
        event_type: fields.get("event_type")?,
        status: fields.get("status")?,
        status_reason: fields.get("status_reason")?,
        customer_id: fields.get("customer_id")?,
        tenant_id: fields.get("tenant_id")?,
        stripe_subscription_id: fields.get("stripe_subscription_id")?,
        object_id: fields.get("object_id")?,
        api_version: fields.get("api_version")?,
        livemode: fields.get("livemode")?,
        lost_tries: fields.get("lost_tries")?,
        transient_errors: fields.get("transient_errors")?,
        last_error: fields.get("last_error")?,
        replays: fields.get("replays")?,
        created_at: fields.get("created_at")?,
        recorded_at: fields.get("recorded_at")?,
        updated_at: fields.get("updated_at")?,
    })
}

/// A page of the events that the filter lets through, the one recorded last first, and one more.
pub(super) async fn list(
    db: &impl Executor,
    filter: &EventFilter,
    page: &Page<(Timestamp, StripeEventId)>,
) -> Result<Vec<EventRow>> {
    let mut conditions = Conditions::default();
    conditions.equal("e.status", filter.status);
    conditions.equal("e.event_type", filter.event_type.clone());
    conditions.equal("e.customer_id", filter.customer_id.clone());
    conditions.equal("e.tenant_id", filter.tenant_id.clone());
    conditions.equal("e.stripe_subscription_id", filter.stripe_subscription_id.clone());
    if let Some(from) = filter.from {
        conditions.and("e.recorded_at >= ?", from.get());
    }
    if let Some(to) = filter.to {
        conditions.and("e.recorded_at < ?", to.get());
    }
    if let Some((at, id)) = &page.after {
        conditions.and_two("(e.recorded_at, e.event_id) < (?, ?)", *at, id.to_string());
    }
    let rows = conditions
        .page(
            db,
            &format!("SELECT {EVENT} FROM stripe_events e"),
            "e.recorded_at DESC, e.event_id DESC",
            page,
        )
        .await?;
    rows.iter().map(event).collect()
}

/// The rows of this clause, each with its event's object.
fn whole(clause: &str) -> String {
    format!("SELECT {EVENT}, e.payload FROM stripe_events e {clause}")
}

/// An event with its object; none where it is not recorded.
pub(super) async fn find(db: &impl Executor, id: &StripeEventId) -> Result<Option<EventDetail>> {
    let row = query_opt(db, &whole("WHERE e.event_id = $1"), &[&id]).await?;
    row.map(|row| Ok(EventDetail { event: event(&row)?, payload: row.get("payload") })).transpose()
}

/// Which of these are recorded.
pub(super) async fn known(db: &impl Executor, ids: &[&str]) -> Result<HashSet<String>> {
    let rows =
        query(db, "SELECT event_id FROM stripe_events WHERE event_id = ANY($1)", &[&ids]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Reserves the next read of Stripe, and returns the seconds until then.
pub(super) async fn book_read(db: &impl Executor, per_second: i32) -> Result<f64> {
    Ok(query_one(db, "SELECT book_stripe_read($1)", &[&per_second]).await?.get(0))
}

/// Locks an event that an operator works on; none where it is not recorded.
pub(super) async fn lock(tx: &Transaction, id: &StripeEventId) -> Result<Option<LockedEvent>> {
    let row = query_opt(tx, &whole("WHERE e.event_id = $1 FOR UPDATE"), &[&id]).await?;
    row.map(|row| Ok(LockedEvent { event: event(&row)?, envelope: envelope(&row)? })).transpose()
}

/// A recorded event, and the same as it was queued.
pub(super) struct LockedEvent {
    /// As it is recorded.
    pub event: EventRow,
    /// As it was queued.
    pub envelope: Envelope,
}

/// The event as it was queued; what was queued without its object is so again.
fn envelope(row: &Row) -> Result<Envelope> {
    let payload: Option<Value> = row.get("payload");
    let slim = payload.is_none();
    let text = |column| row.get::<_, Option<&str>>(column);
    let ids = || {
        json!({"id": text("object_id"), "customer": text("customer_id"),
        "subscription": text("stripe_subscription_id")})
    };
    let event_type: String = row.get("event_type");
    Ok(Envelope {
        id: row.try_get("event_id")?,
        kind: EventKind::parse(&event_type),
        event_type,
        created: row.get("created_at"),
        livemode: row.get("livemode"),
        api_version: row.get("api_version"),
        // One of a connected account is final at once, and never read back.
        account: None,
        object: payload.unwrap_or_else(ids),
        slim,
    })
}

/// Waiting events whose cause is here by now, of one customer or of all, in the order in which they
/// happened. Those of a checkout wait for money, and so for another event. Of a customer who has
/// just become one of ours, whatever waits may be: a subscription that was begun before is adopted.
pub(super) async fn ready(
    db: &impl Executor,
    customer: Option<&StripeCustomerId>,
    limit: i64,
) -> Result<Vec<Envelope>> {
    let sql = whole(
        "WHERE e.status = 'waiting' AND e.event_type NOT LIKE 'checkout.session.%'
         AND ($1::text IS NULL OR e.customer_id = $1)
           AND CASE WHEN e.stripe_subscription_id IS NULL
                    THEN EXISTS (SELECT FROM tenants t WHERE t.stripe_customer_id = e.customer_id)
                         OR EXISTS (SELECT FROM stripe_customer_aliases a
                         WHERE a.stripe_customer_id = e.customer_id)
                    ELSE $1 IS NOT NULL OR EXISTS (SELECT FROM subscriptions s
                    WHERE s.stripe_subscription_id = e.stripe_subscription_id) END
         ORDER BY e.created_at, e.event_id LIMIT $2",
    );
    query(db, &sql, &[&customer, &limit]).await?.iter().map(envelope).collect()
}

/// The checkout that waits for this Stripe subscription to be complete, or to be paid; or that
/// ended for a reason which begins so.
pub(super) async fn unpaid_checkout(
    db: &impl Executor,
    id: &StripeSubscriptionId,
    ended: &str,
) -> Result<Option<Envelope>> {
    let sql = whole(
        "WHERE e.event_type LIKE 'checkout.session.%' AND e.stripe_subscription_id = $1
         AND (e.status = 'waiting'
              OR e.status = 'ignored' AND starts_with(e.status_reason, $2))
         ORDER BY e.created_at LIMIT 1",
    );
    query_opt(db, &sql, &[&id, &ended]).await?.as_ref().map(envelope).transpose()
}

/// Whether an event of this Stripe subscription is waiting, failed or dismissed.
pub(super) async fn has_open_event(tx: &Transaction, id: &StripeSubscriptionId) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM stripe_events WHERE stripe_subscription_id = $1
               AND status IN ('waiting', 'failed', 'dismissed'))";
    Ok(query_one(tx, sql, &[&id]).await?.get(0))
}

/// The condition that an event is a checkout's, and waits or has failed.
fn open_checkout(event: &str) -> String {
    format!(
        "{event}.event_type LIKE 'checkout.session.%' AND {event}.status IN ('waiting', 'failed')"
    )
}

/// Whether a checkout of this Stripe subscription is waiting or failed.
pub(super) async fn has_open_checkout(tx: &Transaction, id: &StripeSubscriptionId) -> Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM stripe_events e WHERE e.stripe_subscription_id = $1 AND {})",
        open_checkout("e")
    );
    Ok(query_one(tx, &sql, &[&id]).await?.get(0))
}

/// An event that has waited for too long.
pub(super) struct EndedWait {
    /// Its id.
    pub id: StripeEventId,
    /// As Stripe spells it.
    pub event_type: String,
    /// Which Stripe subscription it is about.
    pub stripe_subscription_id: Option<StripeSubscriptionId>,
    /// Whether one of our prices is in it, and no checkout of it waits or has failed.
    pub names_our_price: bool,
}

/// Ends events that have waited since before `since`.
pub(super) async fn end_waiting(
    tx: &Transaction,
    since: Timestamp,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<EndedWait>> {
    let sql = format!(
        "UPDATE stripe_events SET status = 'ignored',
         status_reason = 'nothing of ours appeared within 72 hours', updated_at = $2
         WHERE event_id IN (SELECT event_id FROM stripe_events WHERE status = 'waiting'
                            AND recorded_at < $1 AND event_type NOT LIKE 'checkout.session.%'
                            ORDER BY recorded_at LIMIT $3 FOR UPDATE SKIP LOCKED)
         RETURNING event_id, event_type, stripe_subscription_id,
             EXISTS (SELECT FROM stripe_prices p
                     WHERE strpos(payload::text, '\"' || p.stripe_price_id || '\"') > 0)
             AND NOT EXISTS (SELECT FROM stripe_events c
                     WHERE c.stripe_subscription_id = stripe_events.stripe_subscription_id
                     AND {}) AS ours",
        open_checkout("c")
    );
    let rows = query_planned(
        tx,
        &sql,
        &[(&since, Type::TIMESTAMPTZ), (&now, Type::TIMESTAMPTZ), (&limit, Type::INT8)],
    )
    .await?;
    rows.iter()
        .map(|row| {
            Ok(EndedWait {
                id: row.try_get("event_id")?,
                event_type: row.get("event_type"),
                stripe_subscription_id: row.try_get("stripe_subscription_id")?,
                names_our_price: row.get("ours"),
            })
        })
        .collect()
}

/// Counts a replay.
pub(super) async fn count_replay(
    tx: &Transaction,
    id: &StripeEventId,
    now: Timestamp,
) -> Result<()> {
    tx.write(
        "UPDATE stripe_events SET replays = replays + 1, updated_at = $2 WHERE event_id = $1",
        &[&id, &now],
    )
    .await
}

/// `PostgreSQL`'s jsonb has no NUL character. The copy here is only read by people, so losing it
/// costs nothing.
fn stored(object: &Value) -> Value {
    let text = object.to_string();
    if text.contains("\\u0000") {
        serde_json::from_str(&text.replace("\\u0000", "")).unwrap_or_default()
    } else {
        object.clone()
    }
}

/// Records the outcome of an event whose row is locked.
pub(super) async fn finish(
    tx: &Transaction,
    id: &StripeEventId,
    status: EventStatus,
    reason: Option<&str>,
    tenant: Option<&TenantId>,
    now: Timestamp,
) -> Result<()> {
    tx.write(
        "UPDATE stripe_events SET status = $2, status_reason = $3,
         tenant_id = coalesce($4, tenant_id), lost_tries = 0, updated_at = $5 WHERE event_id = $1",
        &[&id, &status, &reason, &tenant, &now],
    )
    .await
}

/// Ends the wait of the other events of a checkout, now that its outcome is known.
pub(super) async fn finish_waiting_checkout(
    tx: &Transaction,
    session: &StripeSessionId,
    status: EventStatus,
    reason: &str,
    tenant: Option<&TenantId>,
    now: Timestamp,
) -> Result<()> {
    tx.write(
        "UPDATE stripe_events SET status = $2, status_reason = $3,
         tenant_id = coalesce($4, tenant_id), updated_at = $5
         WHERE object_id = $1 AND status = 'waiting' AND event_type LIKE 'checkout.session.%'",
        &[&session, &status, &reason, &tenant, &now],
    )
    .await
}

/// Ends what waits for a subscription that ended unpaid. Not the word of a payment: the read may
/// have been older.
pub(super) async fn finish_never_paid(
    tx: &Transaction,
    subscription: &str,
    reason: &str,
    now: Timestamp,
) -> Result<()> {
    tx.write(
        "UPDATE stripe_events SET status = 'ignored', status_reason = $2, updated_at = $3
         WHERE stripe_subscription_id = $1 AND status = 'waiting'
         AND event_type <> 'invoice.paid'",
        &[&subscription, &reason, &now],
    )
    .await
}

/// Whether Stripe has reported that the asynchronous payment of this checkout failed.
pub(super) async fn payment_failed(tx: &Transaction, session: &StripeSessionId) -> Result<bool> {
    let row = query_one(
        tx,
        "SELECT EXISTS (SELECT FROM stripe_events WHERE object_id = $1
         AND event_type = 'checkout.session.async_payment_failed' AND status = 'applied')",
        &[&session],
    )
    .await?;
    Ok(row.get(0))
}

/// Drops the payloads of up to `limit` final events that were recorded before then, the oldest
/// first. Their outcome is as old as it was.
pub(super) async fn drop_payloads(
    db: &impl Executor,
    before: Timestamp,
    limit: i64,
) -> Result<u64> {
    let sql = "UPDATE stripe_events SET payload = NULL
               WHERE event_id IN (SELECT event_id FROM stripe_events
                                  WHERE payload IS NOT NULL
                                  AND status IN ('applied', 'ignored', 'dismissed')
                                  AND recorded_at < $1
                                  ORDER BY recorded_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
    execute(db, sql, &[&before, &limit]).await
}
