//! Counts that differ from the devices are corrected.

use jiff::Timestamp;
use serde_json::json;

use super::model::{Correction, DeviceCorrection, Reconciled};
use super::store;
use crate::Result;
use crate::base::caller::Person;
use crate::base::ids::SubscriptionId;
use crate::db::{Db, Transaction};
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::families::family::Family;
use crate::domain::{audit, families};

/// Counts the devices of a family again, and corrects what differs: slots on the root's rows,
/// devices on each member.
///
/// # Errors
/// `subscription_not_found`.
pub async fn reconcile(
    db: &Db,
    by: &Person,
    id: &SubscriptionId,
    dry_run: bool,
    now: Timestamp,
) -> Result<Reconciled> {
    let tx = db.begin().await?;
    let family = families::locks::lock(&tx, id).await?.ok_or_else(families::not_found)?;
    let reconciled =
        Reconciled { dry_run, ..count_anew(&tx, Actor::Operator(by), &family, now).await? };
    if !dry_run {
        tx.commit().await?;
    }
    Ok(reconciled)
}

/// The same of a locked family, in its transaction. The hourly run leaves what an operator counted
/// by hand.
pub(crate) async fn count_anew(
    tx: &Transaction,
    by: Actor<'_>,
    family: &Family,
    now: Timestamp,
) -> Result<Reconciled> {
    let root = &family.root;
    let counted = store::count_devices(tx, &root.subscription_id).await?;
    let mut corrections = Vec::new();
    let known = family
        .allocations
        .iter()
        .filter(|held| held.subscription == root.subscription_id)
        .map(|held| held.tier);
    let mut tiers: Vec<i32> = known.chain(counted.keys().copied()).collect();
    tiers.sort_unstable();
    tiers.dedup();
    for tier in tiers {
        let (actual, used) = (counted.get(&tier).copied().unwrap_or(0), family.slots_used(tier));
        let held = family.allocation(&root.subscription_id, tier);
        let by_hand = held.is_some_and(|held| held.counted_by_hand);
        if by_hand && by == Actor::Renewal {
            continue;
        }
        if actual != used || by_hand || held.is_none() {
            families::locks::ensure_row(tx, root, tier, now).await?;
            families::rows::set_used(tx, &root.subscription_id, tier, actual, now).await?;
            corrections.push(Correction {
                subscription_id: None,
                tier_id: tier,
                old_slots_used: used,
                actual_count: actual,
            });
        }
    }
    for held in family
        .allocations
        .iter()
        .filter(|held| held.subscription != root.subscription_id && held.slots_used != 0)
    {
        families::rows::set_used(tx, &held.subscription, held.tier, 0, now).await?;
        let (id, used) = (held.subscription.clone(), i64::from(held.slots_used));
        corrections.push(Correction {
            subscription_id: Some(id),
            tier_id: held.tier,
            old_slots_used: used,
            actual_count: 0,
        });
    }
    let mut device_corrections = Vec::new();
    for (id, actual) in store::count_members(tx, &root.subscription_id).await? {
        let Some(member) = family.member(&id) else { continue };
        if i64::from(member.active_device_count) != actual {
            families::rows::set_devices(tx, &id, actual, now).await?;
            device_corrections.push(DeviceCorrection {
                subscription_id: id,
                old_active_device_count: member.active_device_count,
                actual_count: actual,
            });
        }
    }
    let total = corrections.len() + device_corrections.len();
    if total > 0 {
        let entry = Entry {
            tenant: Some(&root.tenant_id),
            subscription: Some(&root.subscription_id),
            details: Some(
                json!({"subscription_id": root.subscription_id, "corrections": corrections,
                "device_count_corrections": device_corrections}),
            ),
            ..Entry::new(AuditEvent::TierSlotsReconciled, by, now)
        };
        audit::store::insert(tx, &entry).await?;
    }
    let message = match (corrections.len(), device_corrections.len()) {
        (0, 0) => "All slot counts are accurate".to_owned(),
        (tiers, 0) => format!("Reconciled {tiers} tier(s)"),
        (tiers, devices) => format!("Reconciled {tiers} tier(s) and {devices} device count(s)"),
    };
    Ok(Reconciled {
        status: "ok",
        corrections,
        device_count_corrections: device_corrections,
        message,
        dry_run: false,
    })
}
