//! `stripe_prices`.

use deadpool_postgres::Transaction;
use jiff::Timestamp;

use super::model::{Interval, Mapping, PriceOf};
use crate::Result;
use crate::base::ids::{PlanId, StripePriceId};
use crate::db::{execute, query_keys, query_opt};

/// The advisory lock of the mapping. The number is arbitrary, but nothing else may use it.
const LOCK: i64 = 0x7075_6c73_6501;

/// Lets one transaction at a time change the mapping: two that swap prices would otherwise
/// deadlock.
pub(crate) async fn lock(tx: &Transaction<'_>) -> Result<()> {
    execute(tx, "SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    Ok(())
}

/// Lets no transaction change the mapping before this one ends: what it makes by a price that is
/// not mapped is there when the price is mapped.
pub(crate) async fn lock_shared(tx: &Transaction<'_>) -> Result<()> {
    execute(tx, "SELECT pg_advisory_xact_lock_shared($1)", &[&LOCK]).await?;
    Ok(())
}

fn columns(of: &PriceOf) -> (Option<&str>, Option<i32>) {
    match of {
        PriceOf::Plan(plan) => (Some(plan.as_str()), None),
        PriceOf::Tier(tier) => (None, Some(*tier)),
    }
}

/// What these prices belong to; without those that are not mapped.
pub(crate) async fn find(
    tx: &Transaction<'_>,
    ids: &[StripePriceId],
) -> Result<Vec<(StripePriceId, PriceOf)>> {
    let ids: Vec<&str> = ids.iter().map(StripePriceId::as_str).collect();
    let sql = |given: &str| {
        format!(
            "SELECT stripe_price_id, plan_id, tier_id FROM stripe_prices
             WHERE stripe_price_id {given}"
        )
    };
    let rows = query_keys(tx, sql, &ids).await?;
    rows.iter()
        .map(|row| {
            let of = match row.get::<_, Option<i32>>("tier_id") {
                Some(tier) => PriceOf::Tier(tier),
                None => PriceOf::Plan(row.try_get("plan_id")?),
            };
            Ok((row.try_get("stripe_price_id")?, of))
        })
        .collect()
}

/// Makes the present price a former one, unless it is this one.
pub(crate) async fn retire_others(
    tx: &Transaction<'_>,
    of: &PriceOf,
    interval: Interval,
    price: Option<&StripePriceId>,
) -> Result<()> {
    let (plan, tier) = columns(of);
    execute(
        tx,
        "UPDATE stripe_prices SET is_current = false
         WHERE plan_id IS NOT DISTINCT FROM $1 AND tier_id IS NOT DISTINCT FROM $2 AND interval = $3
         AND is_current AND stripe_price_id IS DISTINCT FROM $4",
        &[&plan, &tier, &interval, &price],
    )
    .await?;
    Ok(())
}

/// Maps a price that is new or a former one of the same plan or tier. Returns whether it is new;
/// none if it is mapped to another one.
pub(crate) async fn make_current(
    tx: &Transaction<'_>,
    of: &PriceOf,
    interval: Interval,
    price: &StripePriceId,
    now: Timestamp,
) -> Result<Option<bool>> {
    let (plan, tier) = columns(of);
    let row = query_opt(
        tx,
        "INSERT INTO stripe_prices (stripe_price_id, plan_id, tier_id, interval, created_at)
         VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (stripe_price_id) DO UPDATE SET is_current = true
             WHERE stripe_prices.plan_id IS NOT DISTINCT FROM excluded.plan_id
             AND stripe_prices.tier_id IS NOT DISTINCT FROM excluded.tier_id
               AND stripe_prices.interval = excluded.interval
             RETURNING xmax = 0",
        &[&price, &plan, &tier, &interval, &now],
    )
    .await?;
    Ok(row.map(|row| row.get(0)))
}

/// What the price stands for, if that is a plan: another one, or this one by an interval in which it
/// is sold no more.
pub(crate) async fn find_movable(
    tx: &Transaction<'_>,
    price: &StripePriceId,
    to: &PlanId,
) -> Result<Option<Mapping>> {
    let row = query_opt(
        tx,
        "SELECT plan_id, interval, is_current FROM stripe_prices
         WHERE stripe_price_id = $1 AND plan_id IS NOT NULL AND (plan_id <> $2 OR NOT is_current)",
        &[&price, &to],
    )
    .await?;
    row.map(|row| {
        Ok(Mapping {
            price: price.clone(),
            of: PriceOf::Plan(row.try_get("plan_id")?),
            interval: row.try_get("interval")?,
            is_current: row.get("is_current"),
        })
    })
    .transpose()
}

/// Has a mapped price stand for another plan or interval, as the present one.
pub(crate) async fn reassign(
    tx: &Transaction<'_>,
    price: &StripePriceId,
    to: &PlanId,
    interval: Interval,
) -> Result<()> {
    execute(
        tx,
        "UPDATE stripe_prices SET plan_id = $2, interval = $3, is_current = true
         WHERE stripe_price_id = $1",
        &[&price, &to, &interval],
    )
    .await?;
    Ok(())
}
