//! `devices`.

use futures::future::try_join;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::model::{Device, DeviceFilter, SeenCounts, Sighting};
use crate::Result;
use crate::base::ids::{DeviceId, SubscriptionId, TenantId};
use crate::base::paging::Page;
use crate::db::{Conditions, Executor, Fields, Transaction, execute, query, query_one, query_opt};
use crate::domain::families::subscription::LIVE;

const DEVICE: &str =
    "SELECT d.tenant_id, d.device_id, d.name, d.site_id, d.subscription_id, d.tier_id,
     t.name AS tier_name, t.display_name AS tier_display_name, d.status, d.version,
     d.last_seen_at, d.registered_at, d.decommissioned_at
FROM devices d LEFT JOIN device_tiers t ON t.tier_id = d.tier_id";

fn device(row: &Row) -> Result<Device> {
    let mut fields = Fields::of(row);
    Ok(Device {
        tenant_id: fields.get("tenant_id")?,
        device_id: fields.get("device_id")?,
        name: fields.get("name")?,
        site_id: fields.get("site_id")?,
        subscription_id: fields.get("subscription_id")?,
        tier_id: fields.get("tier_id")?,
        tier_name: fields.get("tier_name")?,
        tier_display_name: fields.get("tier_display_name")?,
        status: fields.get("status")?,
        version: fields.get("version")?,
        last_seen_at: fields.get("last_seen_at")?,
        registered_at: fields.get("registered_at")?,
        decommissioned_at: fields.get("decommissioned_at")?,
    })
}

/// A page by tenant and id, and one more.
pub(crate) async fn list(
    db: &impl Executor,
    filter: &DeviceFilter,
    page: &Page<(TenantId, DeviceId)>,
) -> Result<Vec<Device>> {
    let mut conditions = Conditions::default();
    conditions.equal("d.tenant_id", filter.tenant_id.clone());
    conditions.equal("d.device_id", filter.device_id.clone());
    conditions.equal("d.site_id", filter.site_id.clone());
    conditions.equal("d.subscription_id", filter.subscription_id.clone());
    conditions.equal("d.tier_id", filter.tier_id.map(|tier| tier.0.get_i32()));
    conditions.equal("d.status", filter.status);
    if let Some((tenant, id)) = &page.after {
        conditions.and_two(
            "(d.tenant_id, d.device_id) > (?, ?)",
            tenant.as_str().to_owned(),
            id.as_str().to_owned(),
        );
    }
    conditions
        .page(db, DEVICE, "d.tenant_id, d.device_id", page)
        .await?
        .iter()
        .map(device)
        .collect()
}

/// How many devices are on a subscription, and the first of them by id.
pub(crate) async fn on(
    db: &impl Executor,
    id: &SubscriptionId,
    first: i64,
) -> Result<(i64, Vec<Device>)> {
    let count = query_one(db, "SELECT count(*) FROM devices WHERE subscription_id = $1", &[&id])
        .await?
        .get(0);
    let rows = query(
        db,
        &format!("{DEVICE} WHERE d.subscription_id = $1 ORDER BY d.device_id LIMIT $2"),
        &[&id, &first],
    )
    .await?;
    Ok((count, rows.iter().map(device).collect::<Result<_>>()?))
}

/// A tenant's device in use.
pub(crate) async fn find(
    db: &impl Executor,
    tenant: &TenantId,
    id: &DeviceId,
) -> Result<Option<Device>> {
    let sql =
        format!("{DEVICE} WHERE d.tenant_id = $1 AND d.device_id = $2 AND d.status = 'ACTIVE'");
    query_opt(db, &sql, &[&tenant, &id]).await?.as_ref().map(device).transpose()
}

/// A tenant's device, also one that is out of use.
pub(crate) async fn find_any(
    db: &impl Executor,
    tenant: &TenantId,
    id: &DeviceId,
) -> Result<Option<Device>> {
    let sql = format!("{DEVICE} WHERE d.tenant_id = $1 AND d.device_id = $2");
    query_opt(db, &sql, &[&tenant, &id]).await?.as_ref().map(device).transpose()
}

/// A tenant's device in use, locked until the transaction ends.
pub(crate) async fn lock(
    tx: &Transaction,
    tenant: &TenantId,
    id: &DeviceId,
) -> Result<Option<Device>> {
    let sql = format!(
        "{DEVICE} WHERE d.tenant_id = $1 AND d.device_id = $2 AND d.status = 'ACTIVE' FOR NO KEY \
         UPDATE OF d"
    );
    query_opt(tx, &sql, &[&tenant, &id]).await?.as_ref().map(device).transpose()
}

/// Up to two tenants that have a device of this id in use.
pub(crate) async fn tenants_of(tx: &Transaction, id: &DeviceId) -> Result<Vec<TenantId>> {
    let rows = query(
        tx,
        "SELECT tenant_id FROM devices WHERE device_id = $1 AND status = 'ACTIVE' LIMIT 2",
        &[&id],
    )
    .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Registers a device, or registers a decommissioned one again. None where the id is in use.
pub(crate) async fn insert(
    tx: &Transaction,
    tenant: &TenantId,
    id: &DeviceId,
    name: Option<&str>,
    site: Option<&str>,
    now: Timestamp,
) -> Result<Option<Device>> {
    let inserted = query_opt(
        tx,
        "INSERT INTO devices AS d (tenant_id, device_id, name, site_id, status, registered_at,
         created_at, updated_at)
             VALUES ($1, $2, $3, $4, 'ACTIVE', $5, $5, $5)
             ON CONFLICT (tenant_id, device_id) DO UPDATE
             SET name = excluded.name, site_id = excluded.site_id, status = 'ACTIVE',
             version = d.version + 1,
             registered_at = excluded.registered_at, decommissioned_at = NULL,
             updated_at = excluded.updated_at
             WHERE d.status = 'DECOMMISSIONED'
             RETURNING *, NULL AS tier_name, NULL AS tier_display_name",
        &[&tenant, &id, &name, &site, &now],
    )
    .await?;
    inserted.as_ref().map(device).transpose()
}

/// Puts a locked device on a subscription.
pub(crate) async fn assign(
    tx: &Transaction,
    tenant: &TenantId,
    id: &DeviceId,
    to: &SubscriptionId,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE devices SET subscription_id = $3, updated_at = $4 WHERE tenant_id = $1
               AND device_id = $2";
    tx.write(sql, &[&tenant, &id, &to, &now]).await
}

/// Writes what a locked device is called, and where it is.
pub(crate) async fn save(tx: &Transaction, device: &Device, now: Timestamp) -> Result<()> {
    let Device { tenant_id, device_id, name, site_id, version, .. } = device;
    let sql = "UPDATE devices SET name = $3, site_id = $4, version = $5, updated_at = $6
               WHERE tenant_id = $1 AND device_id = $2";
    tx.write(sql, &[tenant_id, device_id, name, site_id, version, &now]).await
}

/// Gives a locked device a tier, or none.
pub(crate) async fn set_tier(
    tx: &Transaction,
    tenant: &TenantId,
    id: &DeviceId,
    tier: Option<i32>,
    now: Timestamp,
) -> Result<()> {
    let sql =
        "UPDATE devices SET tier_id = $3, updated_at = $4 WHERE tenant_id = $1 AND device_id = $2";
    tx.write(sql, &[&tenant, &id, &tier, &now]).await
}

/// The devices among these that are in use, locked by their ids.
pub(crate) async fn lock_many(
    tx: &Transaction,
    tenant: &TenantId,
    ids: &[DeviceId],
) -> Result<Vec<Device>> {
    let ids: Vec<&str> = ids.iter().map(DeviceId::as_str).collect();
    let sql = format!(
        "{DEVICE} WHERE d.tenant_id = $1 AND d.device_id = ANY($2) AND d.status = 'ACTIVE' ORDER \
         BY d.device_id FOR NO KEY UPDATE OF d"
    );
    query(tx, &sql, &[&tenant, &ids]).await?.iter().map(device).collect()
}

/// Gives locked devices a tier, or none.
pub(crate) async fn set_tiers(
    tx: &Transaction,
    tenant: &TenantId,
    ids: &[&DeviceId],
    tier: Option<i32>,
    now: Timestamp,
) -> Result<()> {
    let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    tx.write(
        "UPDATE devices SET tier_id = $3, updated_at = $4 WHERE tenant_id = $1
                 AND device_id = ANY($2)",
        &[&tenant, &ids, &tier, &now],
    )
    .await
}

/// Takes a locked device out of use.
pub(crate) async fn decommission(
    tx: &Transaction,
    tenant: &TenantId,
    id: &DeviceId,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE devices SET status = 'DECOMMISSIONED', decommissioned_at = $3,
               subscription_id = NULL, tier_id = NULL, updated_at = $3
               WHERE tenant_id = $1 AND device_id = $2";
    tx.write(sql, &[&tenant, &id, &now]).await
}

/// Locks the devices that may be orphaned, because their subscription is dead or a trial, by id,
/// and returns those subscriptions.
pub(crate) async fn lock_orphaned(
    tx: &Transaction,
    tenant: &TenantId,
) -> Result<Vec<SubscriptionId>> {
    let sql = "WITH locked AS (
                 SELECT d.subscription_id FROM devices d
                 WHERE d.tenant_id = $1 AND d.subscription_id IN (
                     SELECT s.subscription_id FROM subscriptions s JOIN subscriptions r
                     ON r.subscription_id = coalesce(s.parent_subscription_id, s.subscription_id)
                     WHERE s.tenant_id = $1 AND (r.status <> ALL($2)
                     OR r.subscription_type = 'TRIAL'))
                 ORDER BY d.device_id FOR NO KEY UPDATE OF d)
             SELECT DISTINCT subscription_id FROM locked ORDER BY subscription_id";
    let rows = query(tx, sql, &[&tenant, &LIVE.as_slice()]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Whether the tenant has a live MAIN other than this one.
pub(crate) async fn has_other_main(
    tx: &Transaction,
    tenant: &TenantId,
    other_than: &SubscriptionId,
) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM subscriptions WHERE tenant_id = $1
               AND subscription_type = 'MAIN' AND status = ANY($2) AND subscription_id <> $3)";
    Ok(query_one(tx, sql, &[&tenant, &LIVE.as_slice(), &other_than]).await?.get(0))
}

/// A device that was moved.
pub(crate) struct MovedDevice {
    /// The device's id.
    pub device_id: DeviceId,
    /// The subscription that it was on.
    pub previous: SubscriptionId,
    /// Its tier, which it keeps.
    pub tier_id: Option<i32>,
}

/// Moves every device of these subscriptions to another of their tenant; both are locked.
pub(crate) async fn move_all(
    tx: &Transaction,
    from: &[&SubscriptionId],
    to: &SubscriptionId,
    now: Timestamp,
) -> Result<Vec<MovedDevice>> {
    let from: Vec<&str> = from.iter().map(|id| id.as_str()).collect();
    let rows = query(
        tx,
        "WITH orphaned AS (SELECT tenant_id, device_id, subscription_id FROM devices
         WHERE subscription_id = ANY($1))
         UPDATE devices d SET subscription_id = $2, updated_at = $3 FROM orphaned o
         WHERE d.tenant_id = o.tenant_id AND d.device_id = o.device_id
         AND d.subscription_id = o.subscription_id
         RETURNING d.device_id, o.subscription_id AS previous, d.tier_id",
        &[&from, &to, &now],
    )
    .await?;
    rows.iter()
        .map(|row| {
            Ok(MovedDevice {
                device_id: row.try_get("device_id")?,
                previous: row.try_get("previous")?,
                tier_id: row.get("tier_id"),
            })
        })
        .collect()
}

/// In the order of the devices' keys, so that two batches of the same devices wait for each other
/// and never in a circle. A device that another batch has seen later meanwhile is left: its lock
/// is taken, and its row compared again. `found` has two rows for a sighting without a tenant
/// where more than one tenant has the device.
const SEE: &str = "WITH named AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[]) WITH ORDINALITY
            AS sighting (device_id, tenant_id, at, nr)),
    found AS (
        SELECT n.nr, n.at, d.tenant_id, d.device_id FROM named n
            JOIN devices d ON d.tenant_id = n.tenant_id AND d.device_id = n.device_id
        UNION ALL
        SELECT n.nr, n.at, d.tenant_id, d.device_id FROM named n CROSS JOIN LATERAL (
            SELECT o.tenant_id, o.device_id FROM devices o WHERE o.device_id = n.device_id LIMIT 2) d
            WHERE n.tenant_id IS NULL),
    latest AS (
        SELECT tenant_id, device_id, max(at) AS at FROM found
        WHERE nr NOT IN (SELECT nr FROM found GROUP BY nr HAVING count(*) > 1)
        GROUP BY tenant_id, device_id),
    locked AS (
        SELECT d.tenant_id, d.device_id, l.at FROM devices d JOIN latest l
            ON d.tenant_id = l.tenant_id AND d.device_id = l.device_id
        WHERE d.last_seen_at IS NULL OR d.last_seen_at < l.at
        ORDER BY d.tenant_id, d.device_id FOR NO KEY UPDATE OF d),
    seen AS (
        UPDATE devices d SET last_seen_at = l.at FROM locked l
        WHERE d.tenant_id = l.tenant_id AND d.device_id = l.device_id RETURNING 1)
    SELECT (SELECT count(*) FROM seen) AS updated,
        (SELECT count(DISTINCT nr) FROM found) AS found,
        (SELECT count(*) - count(DISTINCT nr) FROM found) AS ambiguous";

/// Notes when devices in use were last heard of, in the role of telemetry: the rest of the
/// transaction can do nothing else. A device that somebody changes at the moment is waited for
/// only so long; the whole batch can be sent again.
pub(crate) async fn see(tx: &Transaction, devices: &[Sighting]) -> Result<SeenCounts> {
    let narrow = "SELECT set_config('role', 'pulse_telemetry', true),
                  set_config('lock_timeout', '2s', true)";
    let ids: Vec<&DeviceId> = devices.iter().map(|seen| &seen.device_id).collect();
    let tenants: Vec<_> = devices.iter().map(|seen| seen.tenant_id.as_ref()).collect();
    let times: Vec<Timestamp> = devices.iter().map(|seen| seen.last_seen_at.get()).collect();
    let seen: [&(dyn ToSql + Sync); 3] = [&ids, &tenants, &times];
    let (_, row) = try_join(execute(tx, narrow, &[]), query_one(tx, SEE, &seen)).await?;
    let (updated, found): (i64, i64) = (row.get("updated"), row.get("found"));
    let (all, ambiguous) = (i64::try_from(devices.len()).unwrap_or(i64::MAX), row.get("ambiguous"));
    Ok(SeenCounts {
        updated,
        unchanged: found - ambiguous - updated,
        unknown: all - found,
        ambiguous,
    })
}
