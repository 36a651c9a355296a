//! A MAIN that a company buys while it has no other live one takes the place of what was before it:
//! it ends the company's trials and adopts orphaned devices (docs/subscriptions.md, "Devices").

use jiff::Timestamp;
use serde_json::json;

use super::store;
use crate::Result;
use crate::base::ids::{StripeEventId, SubscriptionId, TenantId};
use crate::db::Transaction;
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::families::subscription::{Subscription, SubscriptionType};
use crate::domain::{audit, families};

/// Moves to the new MAIN, whose row is this transaction's own, every device of the tenant's dead
/// subscriptions and trials, with its slot, whatever the limits: nothing is taken away from who has
/// just paid. Ends the trials that an operator gave. Nothing where the tenant has another live
/// MAIN.
pub(crate) async fn adopt(
    tx: &Transaction,
    tenant: &TenantId,
    to: &SubscriptionId,
    (actor, event): (Actor<'_>, Option<&StripeEventId>),
    now: Timestamp,
) -> Result<()> {
    // Devices before families, as everywhere: those that may be orphaned are locked, and then the
    // subscriptions that they are on. The tenant's row is locked, so no trial is added meanwhile.
    let mut candidates = store::lock_orphaned(tx, tenant).await?;
    candidates.extend(families::rows::live_trials(tx, tenant).await?);
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
    let entry = |event_type, subscription, previous_state, new_state, details| Entry {
        tenant: Some(tenant),
        subscription: Some(subscription),
        stripe_event: event,
        previous_state: Some(previous_state),
        new_state: Some(new_state),
        details: Some(details),
        ..Entry::new(event_type, actor, now)
    };
    let moved = store::move_all(tx, &members, to, now).await?;
    let mut entries: Vec<Entry<'_>> = moved
        .iter()
        .map(|device| Entry {
            device: Some(&device.device_id),
            ..entry(
                AuditEvent::DeviceReassigned,
                to,
                json!({"subscription_id": device.previous}),
                json!({"subscription_id": to}),
                json!({"tier_id": device.tier_id, "reason": "taken over by a new MAIN"}),
            )
        })
        .collect();
    for trial in orphaned.iter().map(|family| &family.root).filter(|root| is_given_trial(root)) {
        let after = trial.expired(now);
        families::rows::save(tx, &after).await?;
        let details = json!({"replaced_by": to});
        entries.push(entry(
            AuditEvent::StatusExpired,
            &trial.subscription_id,
            json!(trial),
            json!(after),
            details,
        ));
    }
    audit::store::insert_all(tx, &entries, now).await?;
    families::locks::recount(tx, &members, &roots, to, now).await
}

/// A live trial that nobody pays for. One that Stripe pays for follows Stripe.
fn is_given_trial(root: &Subscription) -> bool {
    root.subscription_type == SubscriptionType::Trial
        && root.status.is_live()
        && root.stripe.is_none()
}
