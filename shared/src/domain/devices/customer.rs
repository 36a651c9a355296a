//! What a customer does with the devices of their own tenant, inside row-level security and inside
//! what was paid for.

use std::collections::BTreeMap;

use futures::{join, try_join};
use jiff::Timestamp;
use serde_json::json;

use super::bulk::{Write, no_device_twice, no_subscription};
use super::model::{
    Assignments, Device, DeviceFilter, DeviceResult, DeviceUpdate, MoveResult, OwnDevice,
    TierChange, not_found,
};
use super::{
    change_tier, decommission_locked, model, move_locked, place_for, record, store, takes_a_device,
    update_locked,
};
use crate::base::caller::Customer;
use crate::base::error::Refusal;
use crate::base::fields::Text;
use crate::base::ids::{DeviceId, SubscriptionId, TenantId};
use crate::base::paging::{Page, Slice};
use crate::base::version::IfMatch;
use crate::db::{Db, Transaction};
use crate::domain::audit::model::{Actor, AuditEvent};
use crate::domain::families::family::Family;
use crate::domain::idempotency::model::Key;
use crate::domain::tenants::session::begin;
use crate::domain::tiers::model::Tier;
use crate::domain::{families, idempotency, tiers};
use crate::{Error, Result};

/// A page of the tenant's devices, by id.
///
/// # Errors
/// `Database`.
pub async fn list(
    db: &Db,
    caller: &Customer,
    filter: &DeviceFilter,
    page: &Page<(TenantId, DeviceId)>,
) -> Result<Slice<Device>> {
    let tx = begin(db, &caller.tenant).await?;
    let (devices, ()) = try_join!(store::list(&tx, filter, page), tx.close())?;
    Ok(page.cut(devices, |device| (device.tenant_id.clone(), device.device_id.clone())))
}

/// One of the tenant's devices.
///
/// # Errors
/// `device_not_found`.
pub async fn get(db: &Db, caller: &Customer, id: &DeviceId) -> Result<Device> {
    let tx = begin(db, &caller.tenant).await?;
    let (device, ()) = try_join!(store::find(&tx, &caller.tenant, id), tx.close())?;
    device.ok_or_else(not_found)
}

/// Registers a device on the subscription that is named, else where one with room ends last.
///
/// # Errors
/// `device_exists`, `subscription_not_found`, `subscription_not_live`, `no_live_subscription`,
/// `device_limit_reached`; those of the key.
pub async fn register(
    db: &Db,
    caller: &Customer,
    key: Option<&Key>,
    new: OwnDevice,
    now: Timestamp,
) -> Result<Device> {
    let tx = begin(db, &caller.tenant).await?;
    let (name, site) =
        (new.name.as_ref().map(Text::as_str), new.site_id.as_ref().map(Text::as_str));
    let families = async {
        match &new.subscription_id {
            Some(id) => families::locks::lock_all(&tx, &[id]).await,
            None => families::locks::lock_live(&tx, &caller.tenant).await,
        }
    };
    let (made, device, families) = join!(
        idempotency::earlier(&tx, key, now),
        store::insert(&tx, &caller.tenant, &new.device_id, name, site, now),
        families
    );
    if let Some(made) = made? {
        return Ok(made);
    }
    let device = device?.ok_or_else(|| {
        Error::conflict("device_exists", format!("Device '{}' already exists", new.device_id))
    })?;
    let families = families?;
    let on = match new.subscription_id {
        Some(id) => {
            takes_a_device(families.first().ok_or_else(families::not_found)?, &id)?;
            id
        }
        None => place_for(&families)?.ok_or_else(|| {
            Error::refusal(
                Refusal::PaymentRequired,
                "no_live_subscription",
                "There is no live subscription for the device. Buy one first.",
            )
        })?,
    };
    let device = Device { subscription_id: Some(on.clone()), ..device };
    let details = json!({"device_id": device.device_id, "subscription_id": on});
    let by = Actor::Customer(&caller.person);
    store::assign(&tx, &caller.tenant, &device.device_id, &on, now).await?;
    families::locks::add_devices(&tx, &on, 1, now).await?;
    record(&tx, AuditEvent::DeviceRegistered, by, &device, None, details, now).await?;
    idempotency::keep(&tx, key, &device, now).await?;
    tx.commit().await?;
    Ok(device)
}

/// Takes a device out of use: its place and its slot are free, and its id may be registered again.
///
/// # Errors
/// `device_not_found`.
pub async fn decommission(db: &Db, caller: &Customer, id: &DeviceId, now: Timestamp) -> Result<()> {
    let tx = begin(db, &caller.tenant).await?;
    let (device, families) = lock(&tx, caller, id, None).await?;
    let by = Actor::Customer(&caller.person);
    decommission_locked(&tx, by, &device, &families, now).await
}

/// Changes a device's name and site.
///
/// # Errors
/// `device_not_found`, `version_changed`, `no_fields`.
pub async fn update(
    db: &Db,
    caller: &Customer,
    id: &DeviceId,
    if_match: &IfMatch,
    update: DeviceUpdate,
    now: Timestamp,
) -> Result<Device> {
    let tx = begin(db, &caller.tenant).await?;
    let device = store::lock(&tx, &caller.tenant, id).await?.ok_or_else(not_found)?;
    update_locked(&tx, Actor::Customer(&caller.person), device, if_match, update, now).await
}

/// Locks a device, then its family and that of another subscription, if one is named.
async fn lock(
    tx: &Transaction,
    caller: &Customer,
    id: &DeviceId,
    other: Option<&SubscriptionId>,
) -> Result<(Device, Vec<Family>)> {
    let device = store::lock(tx, &caller.tenant, id);
    let families = families::locks::lock_of_device(tx, &caller.tenant, id, other);
    let (device, families) = try_join!(device, families)?;
    Ok((device.ok_or_else(not_found)?, families))
}

/// Gives a device a tier, while the family has a free slot of it. To the tier that it has changes
/// nothing.
///
/// # Errors
/// In this order: `device_not_found`, `tier_not_found`, `no_subscription`, `subscription_not_live`,
/// `tier_not_in_plan`, `no_free_slot`.
pub async fn assign_tier(
    db: &Db,
    caller: &Customer,
    id: &DeviceId,
    tier: i32,
    now: Timestamp,
) -> Result<TierChange> {
    let tx = begin(db, &caller.tenant).await?;
    // The device is judged first.
    let (locked, tier) = join!(lock(&tx, caller, id, None), tiers::active(&tx, tier));
    let ((device, families), tier) = (locked?, tier?);
    device.subscription_id.as_ref().ok_or_else(no_subscription)?;
    if device.tier_id != Some(tier.tier_id) {
        let family = families.first().ok_or_else(families::not_found)?;
        may_take(family, &tier)?;
        let states = Some((json!({"tier_id": device.tier_id}), json!({"tier_id": tier.tier_id})));
        let details =
            json!({"device_id": id, "old_tier_id": device.tier_id, "new_tier_id": tier.tier_id});
        let by = Actor::Customer(&caller.person);
        change_tier(&tx, family, &device, Some(tier.tier_id), now).await?;
        record(&tx, AuditEvent::DeviceTierAssigned, by, &device, states, details, now).await?;
        tx.commit().await?;
    }
    Ok(TierChange {
        status: "ok",
        device_id: id.clone(),
        tier_id: Some(tier.tier_id),
        tier_name: Some(tier.display_name),
    })
}

/// Takes a device's tier; one without changes nothing.
///
/// # Errors
/// `device_not_found`.
pub async fn remove_tier(
    db: &Db,
    caller: &Customer,
    id: &DeviceId,
    now: Timestamp,
) -> Result<TierChange> {
    let tx = begin(db, &caller.tenant).await?;
    let (device, families) = lock(&tx, caller, id, None).await?;
    if let (Some(old), Some(family)) = (device.tier_id, families.first()) {
        let states = Some((json!({"tier_id": old}), json!({"tier_id": null})));
        let details = json!({"device_id": id, "old_tier_id": old, "new_tier_id": null});
        let by = Actor::Customer(&caller.person);
        change_tier(&tx, family, &device, None, now).await?;
        record(&tx, AuditEvent::DeviceTierRemoved, by, &device, states, details, now).await?;
        tx.commit().await?;
    }
    Ok(TierChange { status: "ok", device_id: id.clone(), tier_id: None, tier_name: None })
}

/// Moves a device to another of the tenant's subscriptions; its tier's slot moves with it.
///
/// # Errors
/// `device_not_found`, `subscription_not_found`, `subscription_not_live`, `device_limit_reached`,
/// `no_free_slot`.
pub async fn move_to(
    db: &Db,
    caller: &Customer,
    id: &DeviceId,
    to: &SubscriptionId,
    now: Timestamp,
) -> Result<MoveResult> {
    let tx = begin(db, &caller.tenant).await?;
    let (device, families) = lock(&tx, caller, id, Some(to)).await?;
    move_locked(&tx, Actor::Customer(&caller.person), &device, &families, to, None, now).await
}

/// Gives many devices one tier, or takes it from them: each that can, or all or none.
///
/// # Errors
/// `tier_not_found`; `Invalid` where a device is listed twice. A refusal of one device is in
/// its result.
pub async fn assign_many(
    db: &Db,
    caller: &Customer,
    wanted: model::Bulk,
    dry_run: bool,
    now: Timestamp,
) -> Result<Assignments> {
    let ids = wanted.device_ids.0;
    no_device_twice(&ids)?;
    let tx = begin(db, &caller.tenant).await?;
    let tier = async {
        match wanted.tier_id {
            Some(tier) => tiers::active(&tx, tier.get_i32()).await.map(Some),
            None => Ok(None),
        }
    };
    let (tier, devices, mut families) = try_join!(
        tier,
        store::lock_many(&tx, &caller.tenant, &ids),
        families::locks::lock_of_devices(&tx, &caller.tenant, &ids)
    )?;
    let devices: BTreeMap<DeviceId, Device> =
        devices.into_iter().map(|device| (device.device_id.clone(), device)).collect();
    let mut results = Vec::new();
    let mut changed = Vec::new();
    for id in &ids {
        let (status, refusal) = match decide(devices.get(id), tier.as_ref(), &mut families) {
            Ok(true) => {
                changed.extend(devices.get(id));
                (if tier.is_some() { "assigned" } else { "removed" }, None)
            }
            Ok(false) => ("unchanged", None),
            Err(error) => ("refused", Some(error)),
        };
        results.push(DeviceResult::new(id.clone(), status, refusal));
    }
    let refused = results.iter().filter(|result| result.status == "refused").count();
    let applied = !dry_run && (refused == 0 || !wanted.all_or_nothing);
    if applied {
        let write = Write {
            tenant: &caller.tenant,
            by: Actor::Customer(&caller.person),
            event_type: if tier.is_some() {
                AuditEvent::DeviceTierAssigned
            } else {
                AuditEvent::DeviceTierRemoved
            },
            tier: tier.as_ref().map(|tier| tier.tier_id),
            notes: None,
        };
        write.all(&tx, &changed, &families, now).await?;
        tx.commit().await?;
    }
    Ok(Assignments { applied, dry_run, changed: changed.len(), refused, results })
}

/// Decides on one device as `assign_tier` would, and counts it in its family's copy, so that the
/// next one sees it.
fn decide(device: Option<&Device>, tier: Option<&Tier>, families: &mut [Family]) -> Result<bool> {
    let device = device.ok_or_else(not_found)?;
    let wanted = tier.map(|tier| tier.tier_id);
    let Some(on) = &device.subscription_id else {
        return if tier.is_some() { Err(no_subscription()) } else { Ok(false) };
    };
    if device.tier_id == wanted {
        return Ok(false);
    }
    let family = families
        .iter_mut()
        .find(|family| family.member(on).is_some())
        .ok_or_else(families::not_found)?;
    if let Some(tier) = tier {
        may_take(family, tier)?;
    }
    if let Some(old) = device.tier_id {
        family.count(old, -1);
    }
    if let Some(new) = wanted {
        family.count(new, 1);
    }
    Ok(true)
}

/// Whether a family gives one more device this tier.
fn may_take(family: &Family, tier: &Tier) -> Result<()> {
    if !family.root.status.is_live() {
        let detail = format!("The subscription is {}.", family.root.status.as_str());
        return Err(Error::refusal(Refusal::PaymentRequired, "subscription_not_live", detail));
    }
    let (used, limit, name) =
        (family.slots_used(tier.tier_id), family.effective_limit(tier.tier_id), &tier.display_name);
    if limit == 0 {
        let detail = format!("Your plan does not include {name} tier slots. Upgrade your plan.");
        return Err(Error::exceeded("tier_not_in_plan", detail, used, limit));
    }
    if used >= limit {
        let detail = format!(
            "No available {name} slots. Used: {used}/{limit}. Upgrade your plan or reassign \
             another device."
        );
        return Err(Error::exceeded("no_free_slot", detail, used, limit));
    }
    Ok(())
}
