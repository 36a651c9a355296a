//! `subscription_audit`: insert only; the database refuses the rest.

use tokio_postgres::Transaction;

use super::{Actor, Entry};
use crate::Result;
use crate::ids::{StripeEventId, SubscriptionId, TenantId};

/// Adds one row.
pub async fn insert(tx: &Transaction<'_>, entry: &Entry<'_>) -> Result<()> {
    let (actor_type, actor_id) = match entry.actor {
        Actor::Stripe => ("system", "stripe"),
        Actor::Outbox => ("system", "outbox"),
        Actor::Operator(id) => ("admin", id),
    };
    tx.execute(
        "INSERT INTO subscription_audit (event_timestamp, event_type, tenant_id, subscription_id, actor_type, actor_id, stripe_event_id, previous_state, new_state, details)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &[
            &entry.at,
            &entry.event_type,
            &entry.tenant.map(TenantId::as_str),
            &entry.subscription.map(SubscriptionId::as_str),
            &actor_type,
            &actor_id,
            &entry.stripe_event.map(StripeEventId::as_str),
            &entry.previous_state,
            &entry.new_state,
            &entry.details,
        ],
    )
    .await?;
    Ok(())
}
