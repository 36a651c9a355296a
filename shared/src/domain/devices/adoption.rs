//! Devices that are left behind: a MAIN that a company buys while it has no other live one takes
//! them over (docs/subscriptions.md, "Devices").

use deadpool_postgres::Transaction;
use jiff::Timestamp;

use super::store;
use crate::Result;
use crate::base::ids::{StripeEventId, SubscriptionId, TenantId};
use crate::domain::families;
use crate::domain::families::subscription::SubscriptionType;

/// Moves to the new MAIN, whose row is this transaction's own, every device of the tenant's dead
/// subscriptions and trials, with its slot, whatever the limits: nothing is taken away from who has
/// just paid. Nothing where the tenant has another live MAIN. Returns how many it moved.
pub(crate) async fn adopt(
    tx: &Transaction<'_>,
    tenant: &TenantId,
    to: &SubscriptionId,
    event: &StripeEventId,
    now: Timestamp,
) -> Result<i64> {
    // Devices before families, as everywhere: those that may be left behind are locked, then what
    // they are on is looked at.
    let candidates = store::lock_left_behind(tx, tenant).await?;
    if candidates.is_empty() {
        return Ok(0);
    }
    let ids: Vec<&SubscriptionId> = candidates.iter().chain([to]).collect();
    let families = families::locks::lock_all(tx, &ids).await?;
    if store::has_other_main(tx, tenant, to).await? {
        return Ok(0);
    }
    let left: Vec<_> = families
        .iter()
        .filter(|family| {
            !family.root.status.is_live()
                || family.root.subscription_type == SubscriptionType::Trial
        })
        .collect();
    let members: Vec<&SubscriptionId> = left
        .iter()
        .flat_map(|family| family.members())
        .map(|member| &member.subscription_id)
        .collect();
    let roots: Vec<&SubscriptionId> =
        left.iter().map(|family| &family.root.subscription_id).collect();
    let moved = store::move_all(tx, &members, to, event, now).await?;
    families::locks::recount(tx, &members, &roots, to, now).await?;
    Ok(moved)
}
