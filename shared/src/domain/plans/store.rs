//! `subscription_plans` and `plan_tier_defaults`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::model::{Plan, PlanTier, TierDefault, TierDefaults};
use crate::Result;
use crate::base::fields::{Limits, NamedLimit};
use crate::base::ids::{PlanId, StripePriceId};
use crate::base::paging::Page;
use crate::db::{Conditions, Executor, Transaction, query, query_keys, query_opt};
use crate::domain::prices::model::Price;

crate::row! {
    mod columns: plan: Plan, "subscription_plans" as "p", key plan_id,
    once { created_at }
    changes {
        name,
        description,
        device_limit,
        limits = Json(&plan.limits),
        monthly_price_cents,
        annual_price_cents,
        is_active,
        sort_order,
        version,
        updated_at,
    }
    read {}
}

/// A plan's row with its present prices.
fn select() -> String {
    format!(
        "SELECT {},
             default_currency() AS currency,
             (SELECT jsonb_agg(jsonb_build_object('currency', currency, 'interval', interval,
              'stripe_price_id', stripe_price_id, 'cents', cents)) FROM stripe_prices
              WHERE plan_id = p.plan_id AND is_further) AS further_prices,
             (SELECT stripe_price_id FROM stripe_prices
              WHERE plan_id = p.plan_id AND interval = 'month' AND is_current) AS stripe_price_id,
             (SELECT stripe_price_id FROM stripe_prices
              WHERE plan_id = p.plan_id AND interval = 'year' AND is_current)
             AS stripe_annual_price_id
         FROM subscription_plans p",
        columns::COLUMNS
    )
}

fn plan(row: &Row) -> Result<Plan> {
    let price = |column| row.get::<_, Option<&str>>(column).map(StripePriceId::parse).transpose();
    let Json(limits): Json<Limits> = row.get("limits");
    let further: Option<Json<Vec<Price>>> = row.try_get("further_prices")?;
    let mut plan = Plan {
        plan_id: row.try_get("plan_id")?,
        name: row.get("name"),
        description: row.get("description"),
        device_limit: row.get("device_limit"),
        limits,
        currency: row.try_get("currency")?,
        stripe_price_id: price("stripe_price_id")?,
        stripe_annual_price_id: price("stripe_annual_price_id")?,
        monthly_price_cents: row.get("monthly_price_cents"),
        annual_price_cents: row.get("annual_price_cents"),
        prices: Vec::new(),
        is_active: row.get("is_active"),
        sort_order: row.get("sort_order"),
        version: row.get("version"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    };
    plan.all_prices().list(further.map(|Json(further)| further));
    Ok(plan)
}

/// A page in the order of the catalogue, and one more.
pub(crate) async fn list(db: &impl Executor, page: &Page<(i32, PlanId)>) -> Result<Vec<Plan>> {
    let mut conditions = Conditions::default();
    if let Some((sort_order, id)) = &page.after {
        conditions.and_two(
            "(p.sort_order, p.plan_id) > (?, ?)",
            *sort_order,
            id.as_str().to_owned(),
        );
    }
    conditions
        .page(db, &select(), "p.sort_order, p.plan_id", page)
        .await?
        .iter()
        .map(plan)
        .collect()
}

/// The plan of this id, also a retired one.
pub(crate) async fn find(db: &impl Executor, id: &PlanId) -> Result<Option<Plan>> {
    let row = query_opt(db, &format!("{} WHERE p.plan_id = $1", select()), &[&id]).await?;
    row.as_ref().map(plan).transpose()
}

/// The plans that these prices pay for, and the one that is named.
pub(crate) async fn find_of(
    db: &impl Executor,
    prices: &[StripePriceId],
    named: Option<&PlanId>,
) -> Result<Vec<Plan>> {
    let prices: Vec<&str> = prices.iter().map(StripePriceId::as_str).collect();
    let named = named.map(PlanId::as_str);
    let sql = |given: &str| {
        format!(
            "{} WHERE p.plan_id IN (SELECT plan_id FROM stripe_prices WHERE stripe_price_id {given}
             UNION ALL SELECT $2)",
            select()
        )
    };
    let rows = query_keys(db, sql, &prices, &[&named]).await?;
    rows.iter().map(plan).collect()
}

/// The same, locked until this transaction ends.
pub(crate) async fn lock(tx: &Transaction, id: &PlanId) -> Result<Option<Plan>> {
    let sql = format!("{} WHERE p.plan_id = $1 FOR UPDATE OF p", select());
    query_opt(tx, &sql, &[&id]).await?.as_ref().map(plan).transpose()
}

/// Inserts a plan. False if its id is taken.
pub(crate) async fn insert(tx: &Transaction, plan: &Plan) -> Result<bool> {
    Ok(columns::insert(tx, plan, "ON CONFLICT (plan_id) DO NOTHING").await? == 1)
}

/// Writes a locked plan, without its prices: `prices::assign` writes those.
pub(crate) async fn save(tx: &Transaction, plan: &Plan) -> Result<()> {
    columns::save(tx, plan).await
}

/// Makes the next version of a plan whose prices have changed by themselves.
pub(crate) async fn touch(tx: &Transaction, id: &PlanId, now: Timestamp) -> Result<()> {
    let sql = "UPDATE subscription_plans SET version = version + 1, updated_at = $2
               WHERE plan_id = $1";
    tx.write(sql, &[&id, &now]).await
}

/// A plan's tier defaults in the tiers' order; `None` if there is no such plan.
pub(crate) async fn tier_defaults(db: &impl Executor, id: &PlanId) -> Result<Option<TierDefaults>> {
    let rows = query(
        db,
        "SELECT p.version, d.id, p.plan_id, d.tier_id, t.name, t.display_name, d.slot_limit
             FROM subscription_plans p
             LEFT JOIN plan_tier_defaults d ON d.plan_id = p.plan_id
             LEFT JOIN device_tiers t ON t.tier_id = d.tier_id
             WHERE p.plan_id = $1 ORDER BY t.sort_order, t.tier_id",
        &[&id],
    )
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let entries = rows.iter().filter(|row| row.get::<_, Option<i64>>("id").is_some());
    Ok(Some(TierDefaults {
        plan_id: id.clone(),
        version: first.get("version"),
        tier_defaults: entries.map(plan_tier).collect::<Result<_>>()?,
    }))
}

/// The tier defaults of all plans, each plan's in the tiers' order.
pub(crate) async fn all_tier_defaults(db: &impl Executor) -> Result<Vec<PlanTier>> {
    let sql = "SELECT d.id, d.plan_id, d.tier_id, t.name, t.display_name, d.slot_limit
               FROM plan_tier_defaults d JOIN device_tiers t ON t.tier_id = d.tier_id
               ORDER BY t.sort_order, t.tier_id, d.plan_id";
    query(db, sql, &[]).await?.iter().map(plan_tier).collect()
}

fn plan_tier(row: &Row) -> Result<PlanTier> {
    Ok(PlanTier {
        id: row.get("id"),
        plan_id: row.try_get("plan_id")?,
        tier_id: row.get("tier_id"),
        name: row.get("name"),
        display_name: row.get("display_name"),
        slot_limit: row.get("slot_limit"),
    })
}

/// The first tier among these that does not exist.
pub(crate) async fn first_unknown_tier(
    tx: &Transaction,
    defaults: &[TierDefault],
) -> Result<Option<i32>> {
    let tiers: Vec<i32> = defaults.iter().map(|entry| entry.tier_id.get_i32()).collect();
    let row = query_opt(
        tx,
        "SELECT id FROM unnest($1::integer[]) WITH ORDINALITY AS wanted (id, place)
             WHERE NOT EXISTS (SELECT FROM device_tiers WHERE tier_id = id) ORDER BY place LIMIT 1",
        &[&tiers],
    )
    .await?;
    Ok(row.map(|row| row.get(0)))
}

/// Replaces the tier defaults of a locked plan.
pub(crate) async fn replace_tier_defaults(
    tx: &Transaction,
    id: &PlanId,
    defaults: &[TierDefault],
) -> Result<()> {
    let tiers: Vec<i32> = defaults.iter().map(|entry| entry.tier_id.get_i32()).collect();
    let limits: Vec<i32> = defaults.iter().map(|entry| entry.slot_limit.get_i32()).collect();
    tx.write("DELETE FROM plan_tier_defaults WHERE plan_id = $1", &[&id]).await?;
    tx.write(
        "INSERT INTO plan_tier_defaults (plan_id, tier_id, slot_limit) SELECT $1, *
         FROM unnest($2::integer[], $3::integer[])",
        &[&id, &tiers, &limits],
    )
    .await
}

/// What these plans limit, by name.
pub(crate) async fn limits(
    db: &impl Executor,
    ids: impl Iterator<Item = &PlanId>,
) -> Result<BTreeMap<PlanId, Limits>> {
    let ids: Vec<&str> = ids.map(PlanId::as_str).collect();
    let rows = query_keys(
        db,
        |given| format!("SELECT plan_id, limits FROM subscription_plans WHERE plan_id {given}"),
        &ids,
        &[],
    )
    .await?;
    by_plan(&rows)
}

fn by_plan(rows: &[Row]) -> Result<BTreeMap<PlanId, Limits>> {
    rows.iter()
        .map(|row| {
            let Json(limits): Json<Limits> = row.get("limits");
            Ok((row.try_get("plan_id")?, limits))
        })
        .collect()
}

/// The advisory lock of the limits' names. The number is arbitrary, but nothing else may use it.
const NAMES: i64 = 0x6c69_6d69_7473;

/// What all other plans limit, by name. Who writes limits after this waits until this transaction
/// ends.
pub(crate) async fn lock_limits_of_others(
    tx: &Transaction,
    id: &PlanId,
) -> Result<BTreeMap<PlanId, Limits>> {
    tx.write("SELECT pg_advisory_xact_lock($1)", &[&NAMES]).await?;
    // A statement of its own: it must see what the holder before has written.
    let sql = "SELECT plan_id, limits FROM subscription_plans WHERE plan_id <> $1";
    by_plan(&query(tx, sql, &[&id]).await?)
}

/// What some plan limits by this name; `None` if no plan names it.
pub(crate) async fn any_limit(db: &impl Executor, name: &str) -> Result<Option<NamedLimit>> {
    let sql = "SELECT limits->$1 AS named FROM subscription_plans WHERE jsonb_exists(limits, $1)
               ORDER BY plan_id LIMIT 1";
    let row = query_opt(db, sql, &[&name]).await?;
    Ok(row.map(|row| row.get::<_, Json<NamedLimit>>("named").0))
}
