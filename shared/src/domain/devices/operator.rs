//! What an operator does with devices, whatever the limits say.

use futures::{join, try_join};
use jiff::Timestamp;
use serde_json::json;

use super::model::{
    Device, DeviceFilter, DeviceUpdate, Move, MoveResult, NewDevice, Override, OverrideResult,
    not_found,
};
use super::{
    change_tier, decommission_locked, move_locked, place_for, record, store, takes_a_device,
    update_locked,
};
use crate::base::caller::Person;
use crate::base::fields::{Change, Text};
use crate::base::ids::{DeviceId, TenantId};
use crate::base::paging::{Page, Slice};
use crate::base::version::IfMatch;
use crate::db::{Db, Transaction};
use crate::domain::audit::model::{Actor, AuditEvent};
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
    let no_subscription = || {
        Error::malformed(
            "no_subscription",
            "Device has no subscription assigned. Assign a subscription first.",
        )
    };
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
