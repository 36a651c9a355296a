//! Devices: registered to a tenant, on a subscription, and with a tier (docs/subscriptions.md,
//! "Devices").
//!
//! Every operation locks the device first, then its family or families (`crate::families`), then
//! decides and counts.

pub(crate) mod adoption;
mod bulk;
pub mod customer;
pub mod model;
pub mod operator;
pub mod service;
pub(crate) mod store;

use jiff::Timestamp;
use serde_json::{Value, json};

use self::model::{Device, DeviceUpdate, MoveResult};
use crate::base::error::Refusal;
use crate::base::fields::{Note, Text};
use crate::base::ids::SubscriptionId;
use crate::base::version::IfMatch;
use crate::db::Transaction;
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::families::family::Family;
use crate::domain::families::subscription::SubscriptionType;
use crate::domain::{audit, families};
use crate::{Error, Result};

/// Where a device goes that names no subscription: to a live MAIN, else a TRIAL, else a TEMPORARY,
/// with room, and of these to the one that ends last. None where the tenant has no live
/// subscription at all.
fn place_for(families: &[Family]) -> Result<Option<SubscriptionId>> {
    if families.is_empty() {
        return Ok(None);
    }
    let rank = |family: &&Family| match family.root.subscription_type {
        SubscriptionType::Main => 0,
        SubscriptionType::Trial => 1,
        SubscriptionType::Temporary | SubscriptionType::Addon => 2,
    };
    let with_room = families.iter().filter(|family| family.has_room());
    let best = with_room.min_by_key(|family| {
        (rank(family), std::cmp::Reverse(family.root.term_end), family.root.subscription_id.clone())
    });
    let used: i64 = families.iter().map(Family::devices).sum();
    let capacity: i64 = families.iter().map(Family::device_capacity).sum();
    best.map(|family| Some(family.root.subscription_id.clone())).ok_or_else(|| full(used, capacity))
}

/// Whether a family gives one more device access, on this member of it.
fn takes_a_device(family: &Family, id: &SubscriptionId) -> Result<()> {
    let status = family.member(id).map(|member| family.effective_status(member));
    if let Some(status) = status.filter(|status| !status.is_live()) {
        return Err(Error::refusal(
            Refusal::PaymentRequired,
            "subscription_not_live",
            format!("The subscription is {}.", status.as_str()),
        ));
    }
    if family.has_room() { Ok(()) } else { Err(full(family.devices(), family.device_capacity())) }
}

fn full(used: i64, capacity: i64) -> Error {
    let detail = format!(
        "No room for another device. Used: {used}/{capacity}. Upgrade your plan or remove a device."
    );
    Error::exceeded("device_limit_reached", detail, used, capacity)
}

/// Changes a locked device's name and site, for an operator or a customer, and commits. If both are
/// already so, nothing changes.
async fn update_locked(
    tx: &Transaction,
    by: Actor<'_>,
    before: Device,
    if_match: &IfMatch,
    update: DeviceUpdate,
    now: Timestamp,
) -> Result<Device> {
    if_match.check(before.version)?;
    if update.is_empty() {
        return Err(Error::malformed("no_fields", "No fields to update"));
    }
    let mut after = update.applied_to(before.clone());
    if after == before {
        return Ok(after);
    }
    after.version += 1;
    store::save(tx, &after, now).await?;
    let told = |device: &Device| json!({"name": device.name, "site_id": device.site_id});
    let states = Some((told(&before), told(&after)));
    let details = json!({"device_id": after.device_id});
    record(tx, AuditEvent::DeviceUpdated, by, &after, states, details, now).await?;
    tx.commit().await?;
    Ok(after)
}

/// Takes a locked device of a locked family out of use, for an operator or a customer, and commits.
async fn decommission_locked(
    tx: &Transaction,
    by: Actor<'_>,
    device: &Device,
    families: &[Family],
    now: Timestamp,
) -> Result<()> {
    if let Some(on) = &device.subscription_id {
        let family = families.first().ok_or_else(families::not_found)?;
        if let Some(tier) = device.tier_id {
            families::locks::add_slots(tx, &family.root.subscription_id, tier, -1, now).await?;
        }
        families::locks::add_devices(tx, on, -1, now).await?;
    }
    store::decommission(tx, &device.tenant_id, &device.device_id, now).await?;
    let details = json!({"device_id": device.device_id, "subscription_id": device.subscription_id,
        "tier_id": device.tier_id});
    record(tx, AuditEvent::DeviceDecommissioned, by, device, None, details, now).await?;
    tx.commit().await
}

/// Writes a locked device's tier, and counts it in its locked family.
async fn change_tier(
    tx: &Transaction,
    family: &Family,
    device: &Device,
    tier: Option<i32>,
    now: Timestamp,
) -> Result<()> {
    families::locks::move_slot(tx, &family.root.subscription_id, device.tier_id, tier, now).await?;
    store::set_tier(tx, &device.tenant_id, &device.device_id, tier, now).await
}

/// Moves a locked device of locked families, for an operator or a customer, and commits.
async fn move_locked(
    tx: &Transaction,
    by: Actor<'_>,
    device: &Device,
    families: &[Family],
    to: &SubscriptionId,
    notes: Option<&Note>,
    now: Timestamp,
) -> Result<MoveResult> {
    let moved = MoveResult {
        device_id: device.device_id.clone(),
        subscription_id: to.clone(),
        previous_subscription_id: device.subscription_id.clone(),
    };
    if device.subscription_id.as_ref() == Some(to) {
        return Ok(moved);
    }
    let of = |id: &SubscriptionId| families.iter().find(|family| family.member(id).is_some());
    let target = of(to).ok_or_else(families::not_found)?;
    let source = device.subscription_id.as_ref().and_then(of);
    if target.root.tenant_id != device.tenant_id {
        return Err(Error::malformed(
            "subscription_of_another_tenant",
            "Subscription belongs to different tenant",
        ));
    }
    let status = target.member(to).map(|member| target.effective_status(member));
    if let Some(status) = status.filter(|status| !status.is_live()) {
        return Err(Error::malformed(
            "subscription_not_live",
            format!("Cannot assign to {} subscription", status.as_str()),
        ));
    }
    let counted = may_move(device, source, target)?;
    let details = json!({"device_id": device.device_id, "from_subscription": device.subscription_id,
        "to_subscription": to, "tier_id": device.tier_id,
                         "notes": notes.map(Text::as_str)});
    let places =
        Some((json!({"subscription_id": device.subscription_id}), json!({"subscription_id": to})));
    for (root, tier, count) in counted {
        families::locks::add_slots(tx, root, tier, count, now).await?;
    }
    if let Some(from) = &device.subscription_id {
        families::locks::add_devices(tx, from, -1, now).await?;
    }
    families::locks::add_devices(tx, to, 1, now).await?;
    store::assign(tx, &device.tenant_id, &device.device_id, to, now).await?;
    record(tx, AuditEvent::DeviceReassigned, by, device, places, details, now).await?;
    tx.commit().await?;
    Ok(moved)
}

/// Whether a device may move from one locked family to another: then what to count, of slots of
/// its tier, on which root, in their order.
fn may_move<'f>(
    device: &Device,
    source: Option<&'f Family>,
    target: &'f Family,
) -> Result<Vec<(&'f SubscriptionId, i32, i32)>> {
    let same_family =
        source.is_some_and(|source| source.root.subscription_id == target.root.subscription_id);
    if same_family {
        return Ok(Vec::new());
    }
    if !target.has_room() {
        return Err(Error::malformed("device_limit_reached", "Subscription at device limit"));
    }
    let Some(tier) = device.tier_id else { return Ok(Vec::new()) };
    if !target.has_free_slot(tier) {
        let (used, limit) = (target.slots_used(tier), target.effective_limit(tier));
        let detail = format!(
            "The device's tier has no free slot there. Used: {used}/{limit}. Add slots, or remove \
             the tier first."
        );
        return Err(Error::conflict("no_free_slot", detail));
    }
    let mut counted: Vec<_> =
        source.map(|source| (&source.root.subscription_id, tier, -1)).into_iter().collect();
    counted.push((&target.root.subscription_id, tier, 1));
    counted.sort_unstable();
    Ok(counted)
}

async fn record(
    tx: &Transaction,
    event_type: AuditEvent,
    by: Actor<'_>,
    device: &Device,
    states: Option<(Value, Value)>,
    details: Value,
    now: Timestamp,
) -> Result<()> {
    audit::store::insert(tx, &entry(event_type, by, device, states, details, now)).await
}

fn entry<'a>(
    event_type: AuditEvent,
    by: Actor<'a>,
    device: &'a Device,
    states: Option<(Value, Value)>,
    details: Value,
    now: Timestamp,
) -> Entry<'a> {
    let (previous_state, new_state) = states.unzip();
    Entry {
        tenant: Some(&device.tenant_id),
        subscription: device.subscription_id.as_ref(),
        device: Some(&device.device_id),
        previous_state,
        new_state,
        details: Some(details),
        ..Entry::new(event_type, by, now)
    }
}
