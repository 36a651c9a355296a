//! Devices: registered to a tenant, on a subscription, and with a tier (docs/subscriptions.md,
//! "Devices").
//!
//! Every operation locks the device first, then its family or families (`crate::families`), then
//! decides and counts.

pub mod customer;
pub mod model;
pub(crate) mod store;
pub(crate) mod takeover;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::{Value, json};

use self::model::{Device, DeviceFilter, Move, Moved, NewDevice, Overridden, Override};
use crate::base::caller::Person;
use crate::base::error::Refusal;
use crate::base::fields::{Change, Note, Text};
use crate::base::ids::{DeviceId, SubscriptionId, TenantId};
use crate::base::paging::{Page, Slice};
use crate::db::Db;
use crate::domain::audit::model::{Actor, Entry};
use crate::domain::families::family::Family;
use crate::domain::families::subscription::SubscriptionType;
use crate::domain::idempotency::model::Key;
use crate::domain::{audit, families, idempotency, tenants, tiers};
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
    let mut db = db.connection().await?;
    let tx = db.transaction().await?;
    if let Some(made) = idempotency::earlier(&tx, key, now).await? {
        return Ok(made);
    }
    tenants::store::share(&tx, &new.tenant_id).await?;
    let name = new.name.as_ref().map(Text::as_str);
    let site = new.site_id.as_ref().map(Text::as_str);
    if !store::insert(&tx, &new.tenant_id, &new.device_id, name, site, now).await? {
        return Err(Error::conflict(
            "device_exists",
            format!("Device '{}' already exists", new.device_id),
        ));
    }
    let on = match new.subscription_id {
        Change::Set(None) => None,
        Change::Set(Some(id)) => {
            let family = families::locks::lock(&tx, &id)
                .await?
                .filter(|family| family.root.tenant_id == new.tenant_id);
            let family = family.ok_or_else(families::not_found)?;
            takes_a_device(&family, &id)?;
            Some(id)
        }
        Change::Keep => place_for(&tx, &new.tenant_id).await?,
    };
    if let Some(id) = &on {
        store::assign(&tx, &new.tenant_id, &new.device_id, id, now).await?;
        families::locks::add_devices(&tx, id, 1, now).await?;
    }
    let device = store::find(&tx, &new.tenant_id, &new.device_id).await?.ok_or_else(not_found)?;
    record(
        &tx,
        "DEVICE_REGISTERED",
        Actor::Operator(by),
        &device,
        None,
        json!({"device_id": device.device_id, "subscription_id": on}),
        now,
    )
    .await?;
    idempotency::keep(&tx, key, &device, now).await?;
    tx.commit().await?;
    Ok(device)
}

/// Where a device goes that names no subscription: to a live MAIN, else a TRIAL, else a TEMPORARY,
/// with room, and of these to the one that ends last. None where the tenant has no live
/// subscription at all.
async fn place_for(tx: &Transaction<'_>, tenant: &TenantId) -> Result<Option<SubscriptionId>> {
    let families = families::locks::lock_live(tx, tenant).await?;
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

/// Gives a device a tier, or takes it, whatever the limits say. It is counted all the same.
///
/// # Errors
/// `device_not_found`, `tier_not_found`, `no_subscription`.
pub async fn override_tier(
    db: &Db,
    by: &Person,
    wanted: Override,
    now: Timestamp,
) -> Result<Overridden> {
    let mut db = db.connection().await?;
    let tx = db.transaction().await?;
    let device =
        store::lock(&tx, &wanted.tenant_id, &wanted.device_id).await?.ok_or_else(not_found)?;
    let tier = match wanted.tier_id {
        Some(tier) => Some(
            tiers::store::find(&tx, tier.get_i32()).await?.ok_or_else(tiers::not_found)?.tier_id,
        ),
        None => None,
    };
    let overridden = Overridden {
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
    let subscription = device.subscription_id.as_ref().ok_or_else(no_subscription)?;
    let family = families::locks::lock(&tx, subscription).await?.ok_or_else(families::not_found)?;
    if let Some(tier) = tier {
        families::locks::ensure_row(&tx, &family.root, tier, now).await?;
    }
    change_tier(&tx, &family, &device, tier, now).await?;
    let details = json!({"device_id": device.device_id, "old_tier_id": device.tier_id,
    "new_tier_id": tier, "notes": wanted.notes.as_ref().map(Text::as_str)});
    let states = Some((json!({"tier_id": device.tier_id}), json!({"tier_id": tier})));
    record(&tx, "OPERATOR_TIER_ASSIGNMENT", Actor::Operator(by), &device, states, details, now)
        .await?;
    tx.commit().await?;
    Ok(overridden)
}

/// Writes a locked device's tier, and counts it in its locked family.
async fn change_tier(
    tx: &Transaction<'_>,
    family: &Family,
    device: &Device,
    tier: Option<i32>,
    now: Timestamp,
) -> Result<()> {
    let counted =
        families::locks::move_slot(tx, &family.root.subscription_id, device.tier_id, tier, now);
    futures::try_join!(
        counted,
        store::set_tier(tx, &device.tenant_id, &device.device_id, tier, now)
    )
    .map(drop)
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
) -> Result<Moved> {
    let mut db = db.connection().await?;
    let tx = db.transaction().await?;
    let tenant = match wanted.tenant_id {
        Some(tenant) => tenant,
        None => only_tenant_of(&tx, id).await?,
    };
    let device = store::lock(&tx, &tenant, id).await?.ok_or_else(not_found)?;
    let moved = move_locked(
        &tx,
        Actor::Operator(by),
        &device,
        &wanted.subscription_id,
        wanted.notes.as_ref(),
        now,
    )
    .await?;
    tx.commit().await?;
    Ok(moved)
}

/// Moves a locked device, whoever asks.
async fn move_locked(
    tx: &Transaction<'_>,
    by: Actor<'_>,
    device: &Device,
    to: &SubscriptionId,
    notes: Option<&Note>,
    now: Timestamp,
) -> Result<Moved> {
    let moved = Moved {
        device_id: device.device_id.clone(),
        subscription_id: to.clone(),
        previous_subscription_id: device.subscription_id.clone(),
    };
    if device.subscription_id.as_ref() == Some(to) {
        return Ok(moved);
    }
    let ids: Vec<&SubscriptionId> = device.subscription_id.iter().chain([to]).collect();
    let families = families::locks::lock_all(tx, &ids).await?;
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
    relocate(tx, device, source, target, to, now).await?;
    let details = json!({"device_id": device.device_id, "from_subscription": device.subscription_id,
        "to_subscription": to, "tier_id": device.tier_id,
                         "notes": notes.map(Text::as_str)});
    let places =
        Some((json!({"subscription_id": device.subscription_id}), json!({"subscription_id": to})));
    record(tx, "DEVICE_REASSIGNED", by, device, places, details, now).await?;
    Ok(moved)
}

async fn only_tenant_of(tx: &Transaction<'_>, id: &DeviceId) -> Result<TenantId> {
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

/// Writes a locked device's subscription, and moves its counts from one locked family to the other.
async fn relocate(
    tx: &Transaction<'_>,
    device: &Device,
    source: Option<&Family>,
    target: &Family,
    to: &SubscriptionId,
    now: Timestamp,
) -> Result<()> {
    let same_family =
        source.is_some_and(|source| source.root.subscription_id == target.root.subscription_id);
    if !same_family {
        if !target.has_room() {
            return Err(Error::malformed("device_limit_reached", "Subscription at device limit"));
        }
        if let Some(tier) = device.tier_id {
            if !target.has_free_slot(tier) {
                let (used, limit) = (target.slots_used(tier), target.effective_limit(tier));
                let detail = format!(
                    "The device's tier has no free slot there. Used: {used}/{limit}. Add slots, \
                     or remove the tier first."
                );
                return Err(Error::conflict("no_free_slot", detail));
            }
            let mut roots: Vec<(&SubscriptionId, i32)> =
                source.map(|source| (&source.root.subscription_id, -1)).into_iter().collect();
            roots.push((&target.root.subscription_id, 1));
            roots.sort_unstable();
            for (root, count) in roots {
                families::locks::add_slots(tx, root, tier, count, now).await?;
            }
        }
    }
    if let Some(from) = &device.subscription_id {
        families::locks::add_devices(tx, from, -1, now).await?;
    }
    families::locks::add_devices(tx, to, 1, now).await?;
    store::assign(tx, &device.tenant_id, &device.device_id, to, now).await
}

pub(crate) fn not_found() -> Error {
    Error::not_found("device_not_found", "Device not found")
}

async fn record(
    tx: &Transaction<'_>,
    event_type: &'static str,
    by: Actor<'_>,
    device: &Device,
    states: Option<(Value, Value)>,
    details: Value,
    now: Timestamp,
) -> Result<()> {
    let (previous_state, new_state) = states.unzip();
    let entry = Entry {
        tenant: Some(&device.tenant_id),
        subscription: device.subscription_id.as_ref(),
        device: Some(&device.device_id),
        previous_state,
        new_state,
        details: Some(details),
        ..Entry::new(event_type, by, now)
    };
    audit::store::insert(tx, &entry).await
}
