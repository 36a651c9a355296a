//! Tier allocations: how many slots of a tier one subscription brings to its family, and how many
//! the family uses (docs/subscriptions.md, "Slots").

pub mod comparison;
pub mod model;
pub mod recount;
pub(crate) mod store;

use std::collections::BTreeMap;

use futures::try_join;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use self::model::{
    AllocationChange, AllocationList, AllocationUpdate, AllocationView, AllocationsSynced,
    NewAllocation, SlotLimit,
};
use crate::base::caller::Person;
use crate::base::fields::{Change, Count};
use crate::base::ids::{PlanId, SubscriptionId};
use crate::base::version::IfMatch;
use crate::db::{Db, Executor, Transaction};
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::families::family::{Allocation, Family};
use crate::domain::families::subscription::Subscription;
use crate::domain::idempotency::model::Key;
use crate::domain::{audit, families, idempotency, outbox, plans, tiers};
use crate::{Error, Result};

/// A subscription's allocations, with what its family has and uses of each tier.
///
/// # Errors
/// `subscription_not_found`.
pub async fn list(db: &Db, id: &SubscriptionId) -> Result<AllocationList> {
    let db = db.connection().await?;
    let family = families::locks::find(&db, id).await?.ok_or_else(families::not_found)?;
    let subscription = family.member(id).ok_or_else(families::not_found)?;
    Ok(AllocationList {
        subscription_id: id.clone(),
        tenant_id: subscription.tenant_id.clone(),
        plan_id: subscription.plan_id.clone(),
        allocations: view(&db, &family, id).await?,
    })
}

/// What a member of a family has of each tier, by the tiers' order.
pub(crate) async fn view(
    db: &impl Executor,
    family: &Family,
    id: &SubscriptionId,
) -> Result<Vec<AllocationView>> {
    let (rows, counted) =
        try_join!(store::rows(db, id), store::count_devices(db, &family.root.subscription_id))?;
    Ok(views(family, id, rows, &counted))
}

/// The same, of what is read already.
pub(crate) fn views(
    family: &Family,
    id: &SubscriptionId,
    rows: Vec<store::AllocationRow>,
    counted: &BTreeMap<i32, i64>,
) -> Vec<AllocationView> {
    let view = |row: store::AllocationRow| {
        let (used, limit) = (family.slots_used(row.tier_id), family.effective_limit(row.tier_id));
        AllocationView {
            addon_slots: family.addon_slots(row.tier_id),
            effective_limit: limit,
            slots_available: (limit - used).max(0),
            over_limit: used > limit,
            actual_count: counted.get(&row.tier_id).copied().unwrap_or(0),
            counted_by_hand: row.counted_by_hand,
            id: row.id,
            subscription_id: id.clone(),
            tier_id: row.tier_id,
            name: row.name,
            display_name: row.display_name,
            slot_limit: row.slot_limit,
            slots_used: row.slots_used,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    };
    rows.into_iter().map(view).collect()
}

/// Adds an allocation by hand.
///
/// # Errors
/// `subscription_not_found`, `tier_not_found`, `allocation_exists`; those of the idempotency key.
pub async fn create(
    db: &Db,
    by: &Person,
    key: Option<&Key>,
    id: &SubscriptionId,
    new: NewAllocation,
    now: Timestamp,
) -> Result<AllocationView> {
    let tx = db.begin().await?;
    if let Some(made) = idempotency::earlier(&tx, key, now).await? {
        return Ok(made);
    }
    let family = families::locks::lock(&tx, id).await?.ok_or_else(families::not_found)?;
    let subscription = family.member(id).ok_or_else(families::not_found)?;
    let tier = tiers::store::find(&tx, new.tier_id.get_i32())
        .await?
        .ok_or_else(tiers::model::not_found)?;
    if family.allocation(id, tier.tier_id).is_some() {
        let detail = format!(
            "Tier allocation already exists for tier {}. Use PUT to update.",
            tier.display_name
        );
        return Err(Error::conflict("allocation_exists", detail));
    }
    let slots = SlotLimit { tier_id: tier.tier_id, slot_limit: new.slot_limit.get_i32() };
    set_slots(&tx, &family, id, &[slots], now).await?;
    let (_, made) = viewed(&tx, &family, id, tier.tier_id).await?;
    let details = json!({"subscription_id": id, "tier_id": tier.tier_id,
        "tier_name": tier.display_name, "slot_limit": made.slot_limit});
    record(
        &tx,
        AuditEvent::TierAllocationCreated,
        by,
        subscription,
        None,
        Some(json!({"slot_limit": made.slot_limit, "slots_used": 0})),
        details,
        now,
    )
    .await?;
    charge_for_slots(&tx, &family, id, now).await?;
    idempotency::keep(&tx, key, &made, now).await?;
    tx.commit().await?;
    Ok(made)
}

/// Changes an allocation by hand: its limit, or, where the count is known to be wrong, how many
/// slots are used.
///
/// # Errors
/// `subscription_not_found`, `allocation_not_found`, `version_changed`, `no_fields`,
/// `counted_on_parent`.
pub async fn update(
    db: &Db,
    by: &Person,
    id: &SubscriptionId,
    tier_id: i32,
    if_match: &IfMatch,
    update: AllocationUpdate,
    now: Timestamp,
) -> Result<AllocationChange> {
    let tx = db.begin().await?;
    let counted = async {
        if update.slots_used.is_set() {
            store::count_devices(&tx, id).await
        } else {
            Ok(BTreeMap::new())
        }
    };
    let (family, tier, counted) =
        try_join!(families::locks::lock(&tx, id), tiers::store::find(&tx, tier_id), counted)?;
    let family = family.ok_or_else(families::not_found)?;
    let subscription = family.member(id).ok_or_else(families::not_found)?;
    let held = family.allocation(id, tier_id).ok_or_else(not_found)?;
    if_match.check(held.version)?;
    if update.is_empty() {
        return Err(Error::malformed("no_fields", "No fields to update"));
    }
    if update.slots_used.is_set() && family.root.subscription_id != *id {
        return Err(Error::malformed(
            "counted_on_parent",
            format!(
                "Slots of the family are counted on {}. Set slots_used there.",
                family.root.subscription_id
            ),
        ));
    }
    let mut changes = Map::new();
    let mut change = |name: &str, wanted: &Change<Count>, now: i32| match wanted {
        Change::Set(count) if count.get_i32() != now => {
            changes.insert(name.to_owned(), json!({"old": now, "new": count.get()}));
            count.get_i32()
        }
        _ => now,
    };
    let slot_limit = change("slot_limit", &update.slot_limit, held.slot_limit);
    let slots_used = change("slots_used", &update.slots_used, held.slots_used);
    let mut after = Allocation { slot_limit, slots_used, ..held.clone() };
    if update.slots_used.is_set() {
        let counted = counted.get(&tier_id).copied().unwrap_or(0);
        after.counted_by_hand = i64::from(slots_used) != counted;
    }
    if after != *held {
        families::rows::save_allocation(&tx, &after, now).await?;
        let tier = tier.ok_or_else(tiers::model::not_found)?;
        let details = json!({"subscription_id": id, "tier_id": tier_id,
            "tier_name": tier.display_name, "changes": changes});
        let state = |of: &Allocation| {
            Some(json!({"slot_limit": of.slot_limit, "slots_used": of.slots_used,
                    "counted_by_hand": of.counted_by_hand}))
        };
        record(
            &tx,
            AuditEvent::TierAllocationUpdated,
            by,
            subscription,
            state(held),
            state(&after),
            details,
            now,
        )
        .await?;
        charge_for_slots(&tx, &family, id, now).await?;
    }
    let ((family, allocation), ()) = try_join!(viewed(&tx, &family, id, tier_id), tx.commit())?;
    let drift = family.slots_used(tier_id) - allocation.actual_count;
    let warning = (drift != 0).then(|| {
        format!(
            "slots_used is {}, and {} devices hold the tier",
            family.slots_used(tier_id),
            allocation.actual_count
        )
    });
    Ok(AllocationChange { changes, warning, allocation })
}

/// Removes an allocation. A root's that counts slots of its ADDONs stays, with a limit of 0.
///
/// # Errors
/// `subscription_not_found`, `allocation_not_found`, `version_changed`, `slots_in_use`.
pub async fn delete(
    db: &Db,
    by: &Person,
    id: &SubscriptionId,
    tier_id: i32,
    if_match: &IfMatch,
    now: Timestamp,
) -> Result<()> {
    let tx = db.begin().await?;
    let family = families::locks::lock(&tx, id).await?.ok_or_else(families::not_found)?;
    let subscription = family.member(id).ok_or_else(families::not_found)?;
    let held = family.allocation(id, tier_id).ok_or_else(not_found)?;
    if_match.check(held.version)?;
    let tier = tiers::store::find(&tx, tier_id).await?.ok_or_else(tiers::model::not_found)?;
    let is_root = family.root.subscription_id == *id;
    if is_root {
        let counted = store::count_devices(&tx, id).await?.get(&tier_id).copied().unwrap_or(0);
        let used = counted.max(i64::from(held.slots_used));
        if used > 0 {
            let detail = format!(
                "Cannot delete: {used} devices are still assigned to {} tier. Reassign them first.",
                tier.display_name
            );
            return Err(Error::conflict("slots_in_use", detail));
        }
    }
    let needed = is_root
        && family
            .addons
            .iter()
            .any(|addon| family.allocation(&addon.subscription_id, tier_id).is_some());
    if needed && held.slot_limit == 0 {
        return Ok(());
    }
    if needed {
        families::rows::save_allocation(
            &tx,
            &Allocation { slot_limit: 0, slots_used: 0, counted_by_hand: false, ..held.clone() },
            now,
        )
        .await?;
    } else {
        families::rows::delete_allocation(&tx, held.id).await?;
    }
    let details =
        json!({"subscription_id": id, "tier_id": tier_id, "tier_name": tier.display_name});
    record(
        &tx,
        AuditEvent::TierAllocationDeleted,
        by,
        subscription,
        Some(json!({"slot_limit": held.slot_limit, "slots_used": held.slots_used})),
        None,
        details,
        now,
    )
    .await?;
    charge_for_slots(&tx, &family, id, now).await?;
    tx.commit().await?;
    Ok(())
}

/// An ADDON's slots are renewed by Stripe, no more of them than there are.
async fn charge_for_slots(
    tx: &Transaction,
    family: &Family,
    id: &SubscriptionId,
    now: Timestamp,
) -> Result<()> {
    if family.root.subscription_id != *id {
        outbox::insert_addon_quantity(tx, &family.root, now).await?;
    }
    Ok(())
}

/// Gives a subscription the slots and the named limits that its plan brings now, as many times as
/// it pays for: what Stripe's automation does by itself. Uses stay as they are.
///
/// # Errors
/// `subscription_not_found`, `no_plan`, `no_tier_defaults`.
pub async fn sync(
    db: &Db,
    by: &Person,
    id: &SubscriptionId,
    dry_run: bool,
    now: Timestamp,
) -> Result<AllocationsSynced> {
    let tx = db.begin().await?;
    let family = families::locks::lock(&tx, id).await?.ok_or_else(families::not_found)?;
    let subscription = family.member(id).ok_or_else(families::not_found)?;
    let no_plan = || {
        Error::malformed("no_plan", "Subscription has no plan_id set. Set plan_id first via PATCH.")
    };
    let plan_id = subscription.plan_id.clone().ok_or_else(no_plan)?;
    let plan = plans::store::find(&tx, &plan_id).await?.ok_or_else(plans::model::not_found)?;
    let defaults = store::plan_defaults(&tx, &plan_id, subscription.quantity).await?;
    let limits = plan.limits_of(subscription.quantity);
    let had = subscription.limits.clone().unwrap_or_else(|| limits.clone());
    let mut changes = Map::new();
    if had != limits {
        changes.insert("limits".to_owned(), json!({"old": had, "new": limits}));
    }
    if defaults.is_empty() && changes.is_empty() {
        return Err(Error::not_found(
            "no_tier_defaults",
            format!("No tier defaults found for plan '{plan_id}'"),
        ));
    }
    let (before, after) = set_slots(&tx, &family, id, &defaults, now).await?;
    let synced = AllocationsSynced {
        status: "ok",
        allocations_synced: defaults,
        plan_id: plan_id.clone(),
        changed: before != after || !changes.is_empty(),
        changes,
        dry_run,
    };
    if dry_run {
        return Ok(synced);
    }
    if !synced.changes.is_empty() {
        let after_sync = Subscription {
            limits: Some(limits),
            version: subscription.version + 1,
            updated_at: now,
            ..subscription.clone()
        };
        families::rows::save(&tx, &after_sync).await?;
    }
    if synced.changed {
        let details = json!({"subscription_id": id, "plan_id": plan_id,
            "allocations_synced": synced.allocations_synced, "changes": synced.changes});
        record(
            &tx,
            AuditEvent::TierAllocationsSynced,
            by,
            subscription,
            Some(json!(before)),
            Some(json!(after)),
            details,
            now,
        )
        .await?;
    }
    tx.commit().await?;
    Ok(synced)
}

/// Gives a locked subscription the slots of its new plan; tiers that only the old one brought drop
/// to 0. Returns what changed.
pub(crate) async fn take_plan(
    tx: &Transaction,
    family: &Family,
    after: &Subscription,
    old: Option<&PlanId>,
    now: Timestamp,
) -> Result<Value> {
    let mut wanted = match &after.plan_id {
        Some(plan) => store::plan_defaults(tx, plan, after.quantity).await?,
        None => Vec::new(),
    };
    if let Some(old) = old {
        for SlotLimit { tier_id, .. } in store::plan_defaults(tx, old, 1).await? {
            if family.allocation(&after.subscription_id, tier_id).is_some()
                && wanted.iter().all(|brought| brought.tier_id != tier_id)
            {
                wanted.push(SlotLimit { tier_id, slot_limit: 0 });
            }
        }
    }
    let (before, now_limits) = set_slots(tx, family, &after.subscription_id, &wanted, now).await?;
    Ok(json!({"before": before, "after": now_limits}))
}

/// Gives a locked member these slots and no others. Null where it has just them.
pub(crate) async fn take_slots(
    tx: &Transaction,
    family: &Family,
    id: &SubscriptionId,
    slots: &[SlotLimit],
    now: Timestamp,
) -> Result<Value> {
    let dropped = family
        .allocations
        .iter()
        .filter(|held| held.subscription == *id)
        .filter(|held| slots.iter().all(|slots| slots.tier_id != held.tier))
        .map(|held| SlotLimit { tier_id: held.tier, slot_limit: 0 });
    let wanted: Vec<SlotLimit> = slots.iter().copied().chain(dropped).collect();
    if wanted.iter().all(|wanted| {
        family
            .allocation(id, wanted.tier_id)
            .is_some_and(|held| held.slot_limit == wanted.slot_limit)
    }) {
        return Ok(Value::Null);
    }
    let (before, after) = set_slots(tx, family, id, &wanted, now).await?;
    Ok(json!({"before": before, "after": after}))
}

/// Sets limits of a member, and returns those of the tiers in question before and after. The root
/// gets a row to count in.
pub(crate) async fn set_slots(
    tx: &Transaction,
    family: &Family,
    id: &SubscriptionId,
    wanted: &[SlotLimit],
    now: Timestamp,
) -> Result<(Vec<SlotLimit>, Vec<SlotLimit>)> {
    let before = wanted
        .iter()
        .filter_map(|wanted| family.allocation(id, wanted.tier_id))
        .map(|held| SlotLimit { tier_id: held.tier, slot_limit: held.slot_limit })
        .collect();
    for SlotLimit { tier_id, slot_limit } in wanted {
        if family.root.subscription_id != *id {
            families::locks::ensure_row(tx, &family.root, *tier_id, now).await?;
        }
        let tenant = &family.root.tenant_id;
        families::rows::set_limit(tx, tenant, id, *tier_id, *slot_limit, now).await?;
    }
    Ok((before, wanted.to_vec()))
}

/// A family and an allocation of it, as they are now.
async fn viewed(
    tx: &Transaction,
    family: &Family,
    id: &SubscriptionId,
    tier: i32,
) -> Result<(Family, AllocationView)> {
    let root = &family.root.subscription_id;
    let (family, rows, counted) = try_join!(
        families::locks::find(tx, root),
        store::rows(tx, id),
        store::count_devices(tx, root)
    )?;
    let family = family.ok_or_else(families::not_found)?;
    let view = views(&family, id, rows, &counted).into_iter().find(|seen| seen.tier_id == tier);
    Ok((family, view.ok_or_else(not_found)?))
}

fn not_found() -> Error {
    Error::not_found("allocation_not_found", "Tier allocation not found")
}

#[expect(clippy::too_many_arguments, reason = "one audit row")]
async fn record(
    tx: &Transaction,
    event_type: AuditEvent,
    by: &Person,
    subscription: &Subscription,
    previous: Option<Value>,
    new: Option<Value>,
    details: Value,
    now: Timestamp,
) -> Result<()> {
    let entry = Entry {
        tenant: Some(&subscription.tenant_id),
        subscription: Some(&subscription.subscription_id),
        previous_state: previous,
        new_state: new,
        details: Some(details),
        ..Entry::new(event_type, Actor::Operator(by), now)
    };
    audit::store::insert(tx, &entry).await
}
