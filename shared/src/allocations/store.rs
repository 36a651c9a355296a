//! `subscription_tier_allocations`.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::Value;

use crate::Result;
use crate::ids::{PlanId, SubscriptionId, TenantId};

/// Gives a new subscription the slots that its plan brings, and returns them as `[{tier_id, slot_limit}]`, by tier.
pub async fn insert_plan_defaults(tx: &Transaction<'_>, tenant: &TenantId, subscription: &SubscriptionId, plan: &PlanId, now: Timestamp) -> Result<Value> {
    let row = tx
        .query_one(
            "WITH added AS (
                 INSERT INTO subscription_tier_allocations (tenant_id, subscription_id, tier_id, slot_limit, created_at, updated_at)
                 SELECT $1, $2, tier_id, slot_limit, $4, $4 FROM plan_tier_defaults WHERE plan_id = $3
                 RETURNING tier_id, slot_limit
             )
             SELECT coalesce(jsonb_agg(jsonb_build_object('tier_id', tier_id, 'slot_limit', slot_limit) ORDER BY tier_id), '[]') FROM added",
            &[&tenant.as_str(), &subscription.as_str(), &plan.as_str(), &now],
        )
        .await?;
    Ok(row.get(0))
}
