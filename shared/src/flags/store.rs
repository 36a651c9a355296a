//! `flags`.

use deadpool_postgres::Transaction;
use jiff::Timestamp;

use super::Flag;
use crate::Result;
use crate::ids::{StripeEventId, SubscriptionId, TenantId};

/// Raises a flag, unless its event has raised it before.
pub async fn raise(tx: &Transaction<'_>, flag: &Flag<'_>, now: Timestamp) -> Result<()> {
    tx.execute(
        "INSERT INTO flags (kind, tenant_id, subscription_id, stripe_event_id, detail, created_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (kind, stripe_event_id) WHERE stripe_event_id IS NOT NULL DO NOTHING",
        &[
            &flag.kind,
            &flag.tenant.map(TenantId::as_str),
            &flag.subscription.map(SubscriptionId::as_str),
            &flag.stripe_event.map(StripeEventId::as_str),
            &flag.detail,
            &now,
        ],
    )
    .await?;
    Ok(())
}
