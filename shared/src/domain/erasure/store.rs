//! What an erasure asks of the database; the statements that erase are those of
//! `migrations/V38__erasure.sql`.

use tokio_postgres::types::Json;

use super::model::ErasedRows;
use crate::Result;
use crate::base::ids::TenantId;
use crate::db::{Transaction, query_one};

/// Takes what is personal out of the rows of a deleted tenant.
pub(super) async fn erase(tx: &Transaction, id: &TenantId) -> Result<ErasedRows> {
    let Json(rows) = query_one(tx, "SELECT erase_tenant($1)", &[&id]).await?.try_get(0)?;
    Ok(rows)
}

/// What may still need what would be erased, and how many of each there are.
pub(super) async fn unfinished(
    tx: &Transaction,
    id: &TenantId,
) -> Result<[(&'static str, i64); 4]> {
    let row = query_one(
        tx,
        "SELECT (SELECT count(*) FROM subscriptions WHERE tenant_id = $1
                 AND stripe_subscription_id IS NOT NULL
                 AND coalesce(stripe_status, '') NOT IN ('canceled', 'incomplete_expired')),
                (SELECT count(*) FROM flags WHERE tenant_id = $1 AND resolved_at IS NULL),
                (SELECT count(*) FROM outbox_steps WHERE tenant_id = $1
                 AND status IN ('pending', 'failed')),
                (SELECT count(*) FROM stripe_events WHERE tenant_id = $1
                 AND status IN ('waiting', 'failed'))",
        &[&id],
    )
    .await?;
    Ok([
        ("subscriptions that go on at Stripe", row.get(0)),
        ("open flags", row.get(1)),
        ("open provisioning steps", row.get(2)),
        ("Stripe events that are not applied", row.get(3)),
    ])
}
