//! Orphaned devices: a MAIN that a company buys while it has no other live one adopts them
//! (docs/subscriptions.md, "Devices").

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::json;

use super::store;
use crate::Result;
use crate::base::ids::{StripeEventId, SubscriptionId, TenantId};
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::families::subscription::SubscriptionType;
use crate::domain::{audit, families};

/// Moves to the new MAIN, whose row is this transaction's own, every device of the tenant's dead
/// subscriptions and trials, with its slot, whatever the limits: nothing is taken away from who has
/// just paid. Nothing where the tenant has another live MAIN.
pub(crate) async fn adopt(
    tx: &Transaction<'_>,
    tenant: &TenantId,
    to: &SubscriptionId,
    event: &StripeEventId,
    now: Timestamp,
) -> Result<()> {
    // Devices before families, as everywhere: those that may be orphaned are locked, and then the
    // subscriptions that they are on.
    let candidates = store::lock_orphaned(tx, tenant).await?;
    if candidates.is_empty() {
        return Ok(());
    }
    let ids: Vec<&SubscriptionId> = candidates.iter().chain([to]).collect();
    let families = families::locks::lock_all(tx, &ids).await?;
    if store::has_other_main(tx, tenant, to).await? {
        return Ok(());
    }
    let orphaned: Vec<_> = families
        .iter()
        .filter(|family| {
            !family.root.status.is_live()
                || family.root.subscription_type == SubscriptionType::Trial
        })
        .collect();
    let members: Vec<&SubscriptionId> = orphaned
        .iter()
        .flat_map(|family| family.members())
        .map(|member| &member.subscription_id)
        .collect();
    let roots: Vec<&SubscriptionId> =
        orphaned.iter().map(|family| &family.root.subscription_id).collect();
    let moved = store::move_all(tx, &members, to, now).await?;
    let entries: Vec<Entry<'_>> = moved
        .iter()
        .map(|device| Entry {
            tenant: Some(tenant),
            subscription: Some(to),
            device: Some(&device.device_id),
            stripe_event: Some(event),
            previous_state: Some(json!({"subscription_id": device.previous})),
            new_state: Some(json!({"subscription_id": to})),
            details: Some(json!({"tier_id": device.tier_id, "reason": "taken over by a new MAIN"})),
            ..Entry::new(AuditEvent::DeviceReassigned, Actor::Stripe, now)
        })
        .collect();
    audit::store::insert_all(tx, &entries, now).await?;
    families::locks::recount(tx, &members, &roots, to, now).await
}
