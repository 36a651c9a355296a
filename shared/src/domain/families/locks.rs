//! Locks families, and keeps their counts: `subscriptions` and `subscription_tier_allocations`.

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::family::{Allocation, Family};
use super::rows::{COLUMNS, subscription};
use super::subscription::{LIVE, Subscription};
use crate::Result;
use crate::base::ids::{DeviceId, SubscriptionId, TenantId};
use crate::db::{Executor, Transaction, query};

/// Locks the family of this subscription; none where there is no such subscription, or row-level
/// security hides it.
pub(crate) async fn lock(tx: &Transaction, id: &SubscriptionId) -> Result<Option<Family>> {
    Ok(lock_all(tx, &[id]).await?.pop())
}

/// Locks the families of these subscriptions, by their roots' ids, and reads them; each once.
pub(crate) async fn lock_all(tx: &Transaction, ids: &[&SubscriptionId]) -> Result<Vec<Family>> {
    match ids {
        [id] => lock_of(tx, &roots("= $1"), &[id]).await,
        _ => lock_of(tx, &roots("= ANY($1)"), &[&ids]).await,
    }
}

/// Locks the family that a device is on, and that of another subscription, if one is named.
pub(crate) async fn lock_of_device(
    tx: &Transaction,
    tenant: &TenantId,
    device: &DeviceId,
    other: Option<&SubscriptionId>,
) -> Result<Vec<Family>> {
    let on = "(SELECT subscription_id FROM devices WHERE tenant_id = $1 AND device_id = $2)";
    match other {
        None => lock_of(tx, &roots(&format!("= {on}")), &[&tenant, &device]).await,
        Some(other) => {
            let given = format!("IN ({on}, $3)");
            lock_of(tx, &roots(&given), &[&tenant, &device, &other]).await
        }
    }
}

/// Locks the families that these devices are on.
pub(crate) async fn lock_of_devices(
    tx: &Transaction,
    tenant: &TenantId,
    devices: &[DeviceId],
) -> Result<Vec<Family>> {
    let given =
        "IN (SELECT subscription_id FROM devices WHERE tenant_id = $1 AND device_id = ANY($2))";
    lock_of(tx, &roots(given), &[&tenant, &devices]).await
}

/// Locks every family of a tenant that could take a device: those with a live root.
pub(crate) async fn lock_live(tx: &Transaction, tenant: &TenantId) -> Result<Vec<Family>> {
    let roots = "SELECT subscription_id FROM subscriptions WHERE tenant_id = $1
                 AND parent_subscription_id IS NULL AND status = ANY($2)";
    lock_of(tx, roots, &[&tenant, &LIVE.as_slice()]).await
}

/// Locks the families of these roots, and reads them: after the lock, in the same round trip. Only
/// then do the rows say what stays true.
async fn lock_of(
    tx: &Transaction,
    roots: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Family>> {
    // NO KEY UPDATE: rows that refer to a subscription are inserted beside it without waiting.
    let lock = format!(
        "SELECT subscription_id FROM subscriptions WHERE subscription_id IN ({roots})
         ORDER BY subscription_id FOR NO KEY UPDATE"
    );
    let (locked, mut families) =
        futures::try_join!(query(tx, &lock, params), read(tx, roots, params))?;
    // One that appeared between the two is not locked.
    families.retain(|family| {
        locked.iter().any(|row| row.get::<_, &str>(0) == family.root.subscription_id.as_str())
    });
    Ok(families)
}

/// Every family of a tenant whose root has not expired, unlocked.
pub(crate) async fn read_all(db: &impl Executor, tenant: &TenantId) -> Result<Vec<Family>> {
    let roots = "SELECT subscription_id FROM subscriptions WHERE tenant_id = $1
                 AND parent_subscription_id IS NULL AND status <> 'EXPIRED'";
    read(db, roots, &[&tenant]).await
}

/// The family of this subscription, unlocked; none as in `lock`.
pub(crate) async fn find(db: &impl Executor, id: &SubscriptionId) -> Result<Option<Family>> {
    Ok(read(db, &roots("= $1"), &[&id]).await?.pop())
}

/// The families of these roots.
async fn read(
    db: &impl Executor,
    roots: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Family>> {
    let (members, allocations) = (members(roots), allocations(roots));
    let (members, allocations) =
        futures::try_join!(query(db, &members, params), query(db, &allocations, params))?;
    families(&members, &allocations)
}

/// The roots' ids of the families of some subscriptions.
fn roots(given: &str) -> String {
    format!(
        "SELECT coalesce(parent_subscription_id, subscription_id) FROM subscriptions
         WHERE subscription_id {given}"
    )
}

/// The condition that a subscription is in the family of one of these roots. As an array, because
/// `OR` over sub-selects uses no index.
fn of(roots: &str) -> String {
    format!(
        "s.subscription_id = ANY(ARRAY({roots})) OR s.parent_subscription_id = ANY(ARRAY({roots}))"
    )
}

fn members(roots: &str) -> String {
    format!("SELECT {COLUMNS} FROM subscriptions s WHERE {} ORDER BY s.subscription_id", of(roots))
}

fn allocations(roots: &str) -> String {
    format!(
        "SELECT a.id, a.subscription_id, a.tier_id, a.slot_limit, a.slots_used, a.counted_by_hand,
         a.version
         FROM subscription_tier_allocations a JOIN subscriptions s
         ON s.subscription_id = a.subscription_id WHERE {} ORDER BY a.tier_id",
        of(roots)
    )
}

/// Families of their rows.
fn families(members: &[Row], allocations: &[Row]) -> Result<Vec<Family>> {
    let members: Vec<Subscription> = members.iter().map(subscription).collect::<Result<_>>()?;
    let allocations: Vec<Allocation> = allocations
        .iter()
        .map(|row| {
            Ok(Allocation {
                id: row.get("id"),
                subscription: row.try_get("subscription_id")?,
                tier: row.get("tier_id"),
                slot_limit: row.get("slot_limit"),
                slots_used: row.get("slots_used"),
                counted_by_hand: row.get("counted_by_hand"),
                version: row.get("version"),
            })
        })
        .collect::<Result<_>>()?;
    let family = |root: &&Subscription| {
        let addons: Vec<Subscription> = members
            .iter()
            .filter(|member| member.parent_subscription_id.as_ref() == Some(&root.subscription_id))
            .cloned()
            .collect();
        let of_family = |id: &SubscriptionId| {
            *id == root.subscription_id || addons.iter().any(|addon| addon.subscription_id == *id)
        };
        let allocations =
            allocations.iter().filter(|held| of_family(&held.subscription)).cloned().collect();
        Family { root: (*root).clone(), addons, allocations }
    };
    Ok(members
        .iter()
        .filter(|member| member.parent_subscription_id.is_none())
        .collect::<Vec<_>>()
        .iter()
        .map(family)
        .collect())
}

/// Counts devices that came to a member (or left it, below 0).
pub(crate) async fn add_devices(
    tx: &Transaction,
    id: &SubscriptionId,
    devices: i32,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE subscriptions SET active_device_count = active_device_count + $2,
               updated_at = $3 WHERE subscription_id = $1";
    tx.write(sql, &[&id, &devices, &now]).await
}

/// Counts slots of a tier that the family of this root took (or freed, below 0). An operator may
/// have set the count by hand to less than the devices: it never falls below 0.
pub(crate) async fn add_slots(
    tx: &Transaction,
    root: &SubscriptionId,
    tier: i32,
    slots: i32,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE subscription_tier_allocations
               SET slots_used = greatest(slots_used + $3, 0), updated_at = $4
               WHERE subscription_id = $1 AND tier_id = $2";
    tx.write(sql, &[&root, &tier, &slots, &now]).await
}

/// Counts a device of the family of this root whose tier changes: one slot less of the old, one
/// more of the other; none where there is none. Never below 0, as above.
pub(crate) async fn move_slot(
    tx: &Transaction,
    root: &SubscriptionId,
    from: Option<i32>,
    to: Option<i32>,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE subscription_tier_allocations
               SET slots_used = greatest(slots_used + CASE WHEN tier_id = $3 THEN 1
               ELSE -1 END, 0), updated_at = $4
               WHERE subscription_id = $1 AND tier_id IN ($2, $3)";
    tx.write(sql, &[&root, &from, &to, &now]).await
}

/// Makes sure that the root has a row to count a tier's slots in.
pub(crate) async fn ensure_row(
    tx: &Transaction,
    root: &Subscription,
    tier: i32,
    now: Timestamp,
) -> Result<()> {
    let sql =
        "INSERT INTO subscription_tier_allocations (tenant_id, subscription_id, tier_id, slot_limit,
         created_at, updated_at) VALUES ($1, $2, $3, 0, $4, $4)
               ON CONFLICT (subscription_id, tier_id) DO NOTHING";
    tx.write(sql, &[&root.tenant_id, &root.subscription_id, &tier, &now]).await
}

/// Counts again, after devices of `members` moved to the root `to`: places on each, slots on
/// the roots' rows, made where they are missing.
pub(crate) async fn recount(
    tx: &Transaction,
    members: &[&SubscriptionId],
    roots: &[&SubscriptionId],
    to: &SubscriptionId,
    now: Timestamp,
) -> Result<()> {
    let ids = |of: &[&SubscriptionId]| -> Vec<String> {
        of.iter().chain([&to]).map(ToString::to_string).collect()
    };
    let sql = "INSERT INTO subscription_tier_allocations (tenant_id, subscription_id, tier_id,
               slot_limit, created_at, updated_at)
         SELECT DISTINCT tenant_id, subscription_id, tier_id, 0, $2::timestamptz, $2::timestamptz
         FROM devices WHERE subscription_id = $1 AND tier_id IS NOT NULL
         ON CONFLICT (subscription_id, tier_id) DO NOTHING";
    tx.write(sql, &[&to, &now]).await?;
    tx.write(
        "UPDATE subscriptions s SET active_device_count = (SELECT count(*) FROM devices d
         WHERE d.subscription_id = s.subscription_id), updated_at = $2
         WHERE s.subscription_id = ANY($1)",
        &[&ids(members), &now],
    )
    .await?;
    tx.write(
        "UPDATE subscription_tier_allocations a
         SET slots_used = (SELECT count(*) FROM devices d JOIN subscriptions s
         ON s.subscription_id = d.subscription_id
                           WHERE coalesce(s.parent_subscription_id,
                           s.subscription_id) = a.subscription_id
                           AND d.tier_id = a.tier_id), counted_by_hand = false, updated_at = $2
         WHERE a.subscription_id = ANY($1)",
        &[&ids(roots), &now],
    )
    .await
}
