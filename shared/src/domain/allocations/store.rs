//! `subscription_tier_allocations`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::model::{CountKind, Difference, SlotLimit};
use crate::Result;
use crate::base::ids::{PlanId, SubscriptionId};
use crate::db::{Executor, Transaction, query, query_one, query_planned};

/// An allocation with its tier's names.
pub(crate) struct AllocationRow {
    pub id: i64,
    pub tier_id: i32,
    pub name: String,
    pub display_name: String,
    pub slot_limit: i32,
    pub slots_used: i32,
    pub counted_by_hand: bool,
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A subscription's allocations, by the tiers' order.
pub(crate) async fn rows(db: &impl Executor, id: &SubscriptionId) -> Result<Vec<AllocationRow>> {
    let sql = "SELECT a.id, a.tier_id, t.name, t.display_name, a.slot_limit, a.slots_used,
               a.counted_by_hand, a.version, a.created_at, a.updated_at
               FROM subscription_tier_allocations a JOIN device_tiers t ON t.tier_id = a.tier_id
               WHERE a.subscription_id = $1 ORDER BY t.sort_order, t.tier_id";
    let row = |row: &tokio_postgres::Row| AllocationRow {
        id: row.get("id"),
        tier_id: row.get("tier_id"),
        name: row.get("name"),
        display_name: row.get("display_name"),
        slot_limit: row.get("slot_limit"),
        slots_used: row.get("slots_used"),
        counted_by_hand: row.get("counted_by_hand"),
        version: row.get("version"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    };
    Ok(query(db, sql, &[&id]).await?.iter().map(row).collect())
}

/// How many devices of a root's family hold each tier.
pub(crate) async fn count_devices(
    db: &impl Executor,
    root: &SubscriptionId,
) -> Result<BTreeMap<i32, i64>> {
    let sql = "SELECT d.tier_id, count(*) FROM devices d JOIN subscriptions s
               ON s.subscription_id = d.subscription_id
               WHERE (s.subscription_id = $1 OR s.parent_subscription_id = $1)
               AND d.tier_id IS NOT NULL GROUP BY d.tier_id";
    Ok(query(db, sql, &[&root]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// How many devices are on each member of a root's family.
pub(crate) async fn count_members(
    db: &impl Executor,
    root: &SubscriptionId,
) -> Result<Vec<(SubscriptionId, i64)>> {
    let sql =
        "SELECT s.subscription_id, count(d.device_id) FROM subscriptions s LEFT JOIN devices d
               ON d.subscription_id = s.subscription_id
               WHERE s.subscription_id = $1 OR s.parent_subscription_id = $1
               GROUP BY s.subscription_id ORDER BY s.subscription_id";
    query(db, sql, &[&root]).await?.iter().map(|row| Ok((row.try_get(0)?, row.get(1)))).collect()
}

/// What so many of a plan bring, by tier.
pub(crate) async fn plan_defaults(
    tx: &Transaction,
    plan: &PlanId,
    quantity: i32,
) -> Result<Vec<SlotLimit>> {
    let rows = query(
        tx,
        "SELECT tier_id, slot_limit FROM plan_tier_defaults WHERE plan_id = $1 ORDER BY tier_id",
        &[&plan],
    )
    .await?;
    let limit = |row: &Row| SlotLimit {
        tier_id: row.get(0),
        slot_limit: row.get::<_, i32>(1).saturating_mul(quantity),
    };
    Ok(rows.iter().map(limit).collect())
}

/// The last of the `size` subscriptions after this one, by id, and how many there are; none where
/// there is none.
pub(crate) async fn slice_end(
    db: &impl Executor,
    after: Option<&SubscriptionId>,
    size: i64,
) -> Result<Option<(SubscriptionId, i64)>> {
    let sql = "SELECT max(subscription_id), count(*)
               FROM (SELECT subscription_id FROM subscriptions WHERE subscription_id > $1
               ORDER BY subscription_id LIMIT $2) slice";
    let row = query_one(db, sql, &[&after.map_or("", SubscriptionId::as_str), &size]).await?;
    row.get::<_, Option<&str>>(0)
        .map(|last| Ok((SubscriptionId::parse(last)?, row.get(1))))
        .transpose()
}

/// The counts of subscriptions after the first and up to the last that are not what the devices
/// say.
pub(crate) async fn differences(
    db: &impl Executor,
    after: Option<&SubscriptionId>,
    last: &SubscriptionId,
) -> Result<Vec<Difference>> {
    let after = after.map_or("", SubscriptionId::as_str);
    let rows = query_planned(
        db,
        include_str!("differences.sql"),
        &[(&after, Type::TEXT), (&last, Type::TEXT)],
    )
    .await?;
    rows.iter()
        .map(|row| {
            let count = match row.get("count") {
                "slots" => CountKind::Slots,
                "slots_by_hand" => CountKind::SlotsByHand,
                _ => CountKind::Devices,
            };
            Ok(Difference {
                subscription: row.try_get("subscription_id")?,
                root: row.try_get("root")?,
                count,
            })
        })
        .collect()
}
