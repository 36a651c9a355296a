//! What an operator does with devices, whatever the limits say.

use std::collections::BTreeMap;

use futures::{join, try_join};
use jiff::Timestamp;
use serde_json::json;

use super::bulk::{Write, family_of, no_device_twice, no_subscription};
use super::model::{
    BulkOverride, Device, DeviceFilter, DeviceOverride, DeviceUpdate, Move, MoveResult, NewDevice,
    Override, OverrideResult, Overrides, Taken, not_found,
};
use super::{
    change_tier, decommission_locked, move_locked, place_for, record, store, takes_a_device,
    update_locked,
};
use crate::base::caller::Person;
use crate::base::fields::{Change, Text};
use crate::base::ids::{DeviceId, SubscriptionId, TenantId};
use crate::base::paging::{Page, Slice};
use crate::base::version::IfMatch;
use crate::db::{Db, Transaction};
use crate::domain::audit::model::{Actor, AuditEvent};
use crate::domain::families::family::Family;
use crate::domain::idempotency::model::Key;
use crate::domain::{families, idempotency, tenants, tiers};
use crate::{Error, Result};

/// A page of devices, by tenant and id.
///
/// # Errors
/// `Database`.
pub async fn list(
    db: &Db,
    filter: &DeviceFilter,
    page: &Page<(TenantId, DeviceId)>,
) -> Result<Slice<Device>> {
    let devices = store::list(&db.connection().await?, filter, page).await?;
    Ok(page.cut(devices, |device| (device.tenant_id.clone(), device.device_id.clone())))
}

/// One device, also one that is out of use.
///
/// # Errors
/// `device_not_found`.
pub async fn get(db: &Db, tenant: &TenantId, id: &DeviceId) -> Result<Device> {
    store::find_any(&db.connection().await?, tenant, id).await?.ok_or_else(not_found)
}

/// Changes the name and the site of a device.
///
/// # Errors
/// `device_not_found`, `version_changed`, `no_fields`.
pub async fn update(
    db: &Db,
    by: &Person,
    (tenant, id): (&TenantId, &DeviceId),
    if_match: &IfMatch,
    update: DeviceUpdate,
    now: Timestamp,
) -> Result<Device> {
    let tx = db.begin().await?;
    let device = store::lock(&tx, tenant, id).await?.ok_or_else(not_found)?;
    update_locked(&tx, Actor::Operator(by), device, if_match, update, now).await
}

/// Takes a device out of use: its place and its slot are free, and its id may be registered again.
///
/// # Errors
/// `device_not_found`.
pub async fn decommission(
    db: &Db,
    by: &Person,
    tenant: &TenantId,
    id: &DeviceId,
    now: Timestamp,
) -> Result<()> {
    let tx = db.begin().await?;
    let (device, families) = try_join!(
        store::lock(&tx, tenant, id),
        families::locks::lock_of_device(&tx, tenant, id, None)
    )?;
    let device = device.ok_or_else(not_found)?;
    decommission_locked(&tx, Actor::Operator(by), &device, &families, now).await
}

/// Registers a device by hand: on the subscription that is named, on none where that is null, else
/// where a customer's would go. A tenant without any live subscription gets it unassigned.
///
/// # Errors
/// `tenant_not_found`, `tenant_deleted`, `device_exists`, `subscription_not_found`,
/// `subscription_not_live`, `device_limit_reached`; those of the key.
pub async fn register(
    db: &Db,
    by: &Person,
    key: Option<&Key>,
    new: NewDevice,
    now: Timestamp,
) -> Result<Device> {
    let tx = db.begin().await?;
    let name = new.name.as_ref().map(Text::as_str);
    let site = new.site_id.as_ref().map(Text::as_str);
    let families = async {
        match &new.subscription_id {
            Change::Set(None) => Ok(Vec::new()),
            Change::Set(Some(id)) => families::locks::lock_all(&tx, &[id]).await,
            Change::Keep => families::locks::lock_live(&tx, &new.tenant_id).await,
        }
    };
    let (made, tenant, device, families) = join!(
        idempotency::earlier(&tx, key, now),
        tenants::store::share(&tx, &new.tenant_id),
        store::insert(&tx, &new.tenant_id, &new.device_id, name, site, now),
        families
    );
    if let Some(made) = made? {
        return Ok(made);
    }
    tenant?;
    let device = device?.ok_or_else(|| {
        Error::conflict("device_exists", format!("Device '{}' already exists", new.device_id))
    })?;
    let families = families?;
    let on = match new.subscription_id {
        Change::Set(None) => None,
        Change::Set(Some(id)) => {
            let mut of_tenant =
                families.iter().filter(|family| family.root.tenant_id == new.tenant_id);
            takes_a_device(of_tenant.next().ok_or_else(families::not_found)?, &id)?;
            Some(id)
        }
        Change::Keep => place_for(&families)?,
    };
    let device = Device { subscription_id: on, ..device };
    if let Some(id) = &device.subscription_id {
        store::assign(&tx, &new.tenant_id, &new.device_id, id, now).await?;
        families::locks::add_devices(&tx, id, 1, now).await?;
    }
    let by = Actor::Operator(by);
    let details = json!({"device_id": device.device_id, "subscription_id": device.subscription_id});
    record(&tx, AuditEvent::DeviceRegistered, by, &device, None, details, now).await?;
    idempotency::keep(&tx, key, &device, now).await?;
    tx.commit().await?;
    Ok(device)
}

/// Gives a device a tier, or takes it, whatever the limits say. It is counted all the same.
///
/// # Errors
/// `device_not_found`, `tier_not_found`, `no_subscription`.
pub async fn override_tier(
    db: &Db,
    by: &Person,
    wanted: Override,
    now: Timestamp,
) -> Result<OverrideResult> {
    let tx = db.begin().await?;
    let tier = async {
        let Some(tier) = wanted.tier_id else { return Ok(None) };
        let tier = tiers::store::find(&tx, tier.get_i32()).await?;
        tier.map(|tier| Some(tier.tier_id)).ok_or_else(tiers::model::not_found)
    };
    let (device, families, tier) = join!(
        store::lock(&tx, &wanted.tenant_id, &wanted.device_id),
        families::locks::lock_of_device(&tx, &wanted.tenant_id, &wanted.device_id, None),
        tier
    );
    let device = device?.ok_or_else(not_found)?;
    let (families, tier) = (families?, tier?);
    let overridden = OverrideResult {
        status: "ok",
        device_id: device.device_id.clone(),
        old_tier_id: device.tier_id,
        new_tier_id: tier,
    };
    if device.tier_id == tier {
        return Ok(overridden);
    }
    let family = families.first().ok_or_else(no_subscription)?;
    if let Some(tier) = tier {
        families::locks::ensure_row(&tx, &family.root, tier, now).await?;
    }
    change_tier(&tx, family, &device, tier, now).await?;
    let details = json!({"device_id": device.device_id, "old_tier_id": device.tier_id,
    "new_tier_id": tier, "notes": wanted.notes.as_ref().map(Text::as_str)});
    let states = Some((json!({"tier_id": device.tier_id}), json!({"tier_id": tier})));
    let by = Actor::Operator(by);
    record(&tx, AuditEvent::OperatorTierAssignment, by, &device, states, details, now).await?;
    tx.commit().await?;
    Ok(overridden)
}

/// Gives many devices of a tenant a tier, or takes it from them, whatever the limits say. Each is
/// counted all the same, and told whether it is beyond the limit.
///
/// # Errors
/// `tier_not_found`; `Invalid` where a device is listed twice. A refusal of one device is in its
/// result.
pub async fn override_tiers(
    db: &Db,
    by: &Person,
    wanted: BulkOverride,
    dry_run: bool,
    now: Timestamp,
) -> Result<Overrides> {
    let (ids, tenant) = (wanted.device_ids.0, &wanted.tenant_id);
    no_device_twice(&ids)?;
    let tx = db.begin().await?;
    let tier = async {
        let Some(tier) = wanted.tier_id else { return Ok(None) };
        let tier = tiers::store::find(&tx, tier.get_i32()).await?;
        tier.map(|tier| Some(tier.tier_id)).ok_or_else(tiers::model::not_found)
    };
    let (tier, devices, families) = try_join!(
        tier,
        store::lock_many(&tx, tenant, &ids),
        families::locks::lock_of_devices(&tx, tenant, &ids)
    )?;
    let devices: BTreeMap<_, _> =
        devices.into_iter().map(|device| (device.device_id.clone(), device)).collect();
    let (mut results, mut changed, mut used) = (Vec::new(), Vec::new(), BTreeMap::new());
    for id in ids {
        let outcome = decide(devices.get(&id), tier, &families, &mut used);
        changed.extend(devices.get(&id).filter(|_| matches!(outcome, Ok(Some(_)))));
        results.push(DeviceOverride::new(id, outcome));
    }
    if !dry_run && !changed.is_empty() {
        if let Some(tier) = tier {
            // Those of which a device changes.
            for family in
                families.iter().filter(|family| used.contains_key(&family.root.subscription_id))
            {
                families::locks::ensure_row(&tx, &family.root, tier, now).await?;
            }
        }
        let (event_type, notes) = (AuditEvent::OperatorTierAssignment, wanted.notes.as_ref());
        let write = Write { tenant, by: Actor::Operator(by), event_type, tier, notes };
        write.all(&tx, &changed, &families, now).await?;
        tx.commit().await?;
    }
    Ok(Overrides {
        dry_run,
        changed: changed.len(),
        refused: results.iter().filter(|result| result.is_refused()).count(),
        over_limit: results.iter().filter(|result| result.over_limit).count(),
        results,
    })
}

/// Decides on one device as `override_tier` would, and counts its slot among those that are used of
/// its family, by root, so that the next one sees it; none where it has the tier already.
fn decide(
    device: Option<&Device>,
    wanted: Option<i32>,
    families: &[Family],
    used: &mut BTreeMap<SubscriptionId, i64>,
) -> Result<Option<Taken>> {
    let device = device.ok_or_else(not_found)?;
    if device.tier_id == wanted {
        return Ok(None);
    }
    device.subscription_id.as_ref().ok_or_else(no_subscription)?;
    let family = family_of(families, device).ok_or_else(families::not_found)?;
    let Some(tier) = wanted else { return Ok(Some(Taken::Nothing)) };
    let used = used.entry(family.root.subscription_id.clone());
    let used = used.or_insert_with(|| family.slots_used(tier));
    *used += 1;
    let fits = *used <= family.effective_limit(tier);
    Ok(Some(if fits { Taken::Free } else { Taken::Beyond }))
}

/// Moves a device to another subscription of its tenant; its tier's slot moves with it. To where it
/// is already changes nothing.
///
/// # Errors
/// `device_not_found`, `device_ambiguous`, `subscription_not_found`,
/// `subscription_of_another_tenant`, `subscription_not_live`, `device_limit_reached`,
/// `no_free_slot`.
pub async fn move_to(
    db: &Db,
    by: &Person,
    id: &DeviceId,
    wanted: Move,
    now: Timestamp,
) -> Result<MoveResult> {
    let tx = db.begin().await?;
    let tenant = match wanted.tenant_id {
        Some(tenant) => tenant,
        None => only_tenant_of(&tx, id).await?,
    };
    let (device, families) = try_join!(
        store::lock(&tx, &tenant, id),
        families::locks::lock_of_device(&tx, &tenant, id, Some(&wanted.subscription_id))
    )?;
    let device = device.ok_or_else(not_found)?;
    let (by, to) = (Actor::Operator(by), &wanted.subscription_id);
    move_locked(&tx, by, &device, &families, to, wanted.notes.as_ref(), now).await
}

pub(crate) async fn only_tenant_of(tx: &Transaction, id: &DeviceId) -> Result<TenantId> {
    let mut tenants = store::tenants_of(tx, id).await?;
    match (tenants.pop(), tenants.is_empty()) {
        (Some(tenant), true) => Ok(tenant),
        (Some(_), false) => Err(Error::conflict(
            "device_ambiguous",
            "More than one tenant has a device of this id. Name the tenant with tenant_id.",
        )),
        (None, _) => Err(not_found()),
    }
}
