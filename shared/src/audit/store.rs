//! `subscription_audit`: insert only; the database refuses the rest.

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;

use super::model::{AuditFilter, AuditRow};
use super::{Actor, Entry};
use crate::Result;
use crate::fields::{Instant, Text};
use crate::http::Page;
use crate::ids::{DeviceId, StripeEventId, SubscriptionId, TenantId};

/// Adds one row.
pub async fn insert(tx: &Transaction<'_>, entry: &Entry<'_>) -> Result<()> {
    let (actor_type, actor_id, ip) = match entry.actor {
        Actor::Stripe => ("system", "stripe", None),
        Actor::Outbox => ("system", "outbox", None),
        Actor::Renewal => ("system", "renewal", None),
        Actor::Operator(person) => ("admin", person.id.as_str(), person.ip),
        Actor::Customer(person) => ("customer", person.id.as_str(), person.ip),
    };
    tx.execute(
        "INSERT INTO subscription_audit (event_timestamp, event_type, tenant_id, subscription_id, device_id, actor_type, actor_id, ip_address, stripe_event_id, previous_state, new_state, details)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        &[
            &entry.at,
            &entry.event_type,
            &entry.tenant.map(TenantId::as_str),
            &entry.subscription.map(SubscriptionId::as_str),
            &entry.device.map(DeviceId::as_str),
            &actor_type,
            &actor_id,
            &ip,
            &entry.stripe_event.map(StripeEventId::as_str),
            &entry.previous_state,
            &entry.new_state,
            &entry.details,
        ],
    )
    .await?;
    Ok(())
}

/// A page of the rows that the filter lets through, newest first, and one more.
pub async fn list(db: &impl GenericClient, filter: &AuditFilter, page: &Page<(Timestamp, i64)>) -> Result<Vec<AuditRow>> {
    let (at, id) = page.after.unzip();
    let rows = db
        .query(
            "SELECT id, event_timestamp, event_type, tenant_id, subscription_id, device_id, actor_type, actor_id, host(ip_address) AS ip_address,
                    stripe_event_id, previous_state, new_state, details
             FROM subscription_audit
             WHERE ($1::text IS NULL OR tenant_id = $1) AND ($2::text IS NULL OR subscription_id = $2) AND ($3::text IS NULL OR device_id = $3)
               AND ($4::text IS NULL OR event_type = $4) AND ($5::text IS NULL OR actor_id = $5)
               AND ($6::timestamptz IS NULL OR event_timestamp >= $6) AND ($7::timestamptz IS NULL OR event_timestamp < $7)
               AND ($8::timestamptz IS NULL OR (event_timestamp, id) < ($8, $9::bigint))
             ORDER BY event_timestamp DESC, id DESC LIMIT $10 OFFSET $11",
            &[
                &filter.tenant_id.as_ref().map(TenantId::as_str),
                &filter.subscription_id.as_ref().map(SubscriptionId::as_str),
                &filter.device_id.as_ref().map(DeviceId::as_str),
                &filter.event_type.as_ref().map(Text::as_str),
                &filter.actor_id.as_ref().map(Text::as_str),
                &filter.from.map(Instant::get),
                &filter.to.map(Instant::get),
                &at,
                &id,
                &page.fetch(),
                &page.offset,
            ],
        )
        .await?;
    let row = |row: &tokio_postgres::Row| AuditRow {
        id: row.get("id"),
        event_timestamp: row.get("event_timestamp"),
        event_type: row.get("event_type"),
        tenant_id: row.get("tenant_id"),
        subscription_id: row.get("subscription_id"),
        device_id: row.get("device_id"),
        actor_type: row.get("actor_type"),
        actor_id: row.get("actor_id"),
        ip_address: row.get("ip_address"),
        stripe_event_id: row.get("stripe_event_id"),
        previous_state: row.get("previous_state"),
        new_state: row.get("new_state"),
        details: row.get("details"),
    };
    Ok(rows.iter().map(row).collect())
}
