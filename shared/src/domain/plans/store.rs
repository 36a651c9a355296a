//! `subscription_plans` and `plan_tier_defaults`.

use std::collections::BTreeMap;

use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::model::{Plan, PlanTier, TierDefault, TierDefaults};
use crate::Result;
use crate::base::ids::{PlanId, StripePriceId};
use crate::base::paging::Page;
use crate::db::{Conditions, Planner, execute, query, query_keys, query_one, query_opt};

/// A plan's row with its present prices.
const PLAN: &str = "SELECT p.plan_id, p.name, p.description, p.device_limit, p.limits,
                    p.monthly_price_cents, p.annual_price_cents, p.is_active, p.sort_order,
                    p.version, p.created_at, p.updated_at,
       (SELECT stripe_price_id FROM stripe_prices WHERE plan_id = p.plan_id AND interval = 'month'
       AND is_current) AS stripe_price_id,
       (SELECT stripe_price_id FROM stripe_prices WHERE plan_id = p.plan_id AND interval = 'year'
       AND is_current) AS stripe_annual_price_id
FROM subscription_plans p";

fn plan(row: &Row) -> Result<Plan> {
    let price = |column| row.get::<_, Option<&str>>(column).map(StripePriceId::parse).transpose();
    let Json(limits): Json<BTreeMap<String, i64>> = row.get("limits");
    Ok(Plan {
        plan_id: row.try_get("plan_id")?,
        name: row.get("name"),
        description: row.get("description"),
        device_limit: row.get("device_limit"),
        limits,
        stripe_price_id: price("stripe_price_id")?,
        stripe_annual_price_id: price("stripe_annual_price_id")?,
        monthly_price_cents: row.get("monthly_price_cents"),
        annual_price_cents: row.get("annual_price_cents"),
        is_active: row.get("is_active"),
        sort_order: row.get("sort_order"),
        version: row.get("version"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    })
}

/// A page in the order of the catalogue, and one more.
pub async fn list(db: &impl Planner, page: &Page<(i32, PlanId)>) -> Result<Vec<Plan>> {
    let mut conditions = Conditions::default();
    if let Some((sort_order, id)) = &page.after {
        conditions.and_two(
            "(p.sort_order, p.plan_id) > (?, ?)",
            *sort_order,
            id.as_str().to_owned(),
        );
    }
    conditions.page(db, PLAN, "p.sort_order, p.plan_id", page).await?.iter().map(plan).collect()
}

/// The plan of this id, retired ones too: who paid for one has it.
pub async fn find(db: &impl GenericClient, id: &PlanId) -> Result<Option<Plan>> {
    let row = query_opt(db, &format!("{PLAN} WHERE p.plan_id = $1"), &[&id]).await?;
    row.as_ref().map(plan).transpose()
}

/// The same, and nobody else changes it before this transaction ends.
pub async fn lock(tx: &Transaction<'_>, id: &PlanId) -> Result<Option<Plan>> {
    let row =
        query_opt(tx, &format!("{PLAN} WHERE p.plan_id = $1 FOR UPDATE OF p"), &[&id]).await?;
    row.as_ref().map(plan).transpose()
}

/// Inserts a plan. False where its id is taken.
pub async fn insert(tx: &Transaction<'_>, plan: &Plan) -> Result<bool> {
    let inserted = execute(
        tx,
        "INSERT INTO subscription_plans (plan_id, name, description, device_limit, limits,
         monthly_price_cents, annual_price_cents, is_active, sort_order, version, created_at,
         updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (plan_id) DO NOTHING",
        &[
            &plan.plan_id,
            &plan.name,
            &plan.description,
            &plan.device_limit,
            &Json(&plan.limits),
            &plan.monthly_price_cents,
            &plan.annual_price_cents,
            &plan.is_active,
            &plan.sort_order,
            &plan.version,
            &plan.created_at,
            &plan.updated_at,
        ],
    )
    .await?;
    Ok(inserted == 1)
}

/// Writes a locked plan. Its prices are `prices::assign`'s.
pub async fn save(tx: &Transaction<'_>, plan: &Plan) -> Result<()> {
    execute(
        tx,
        "UPDATE subscription_plans SET name = $2, description = $3, device_limit = $4, limits = $5,
         monthly_price_cents = $6, annual_price_cents = $7, is_active = $8, sort_order = $9,
         version = $10, updated_at = $11
         WHERE plan_id = $1",
        &[
            &plan.plan_id,
            &plan.name,
            &plan.description,
            &plan.device_limit,
            &Json(&plan.limits),
            &plan.monthly_price_cents,
            &plan.annual_price_cents,
            &plan.is_active,
            &plan.sort_order,
            &plan.version,
            &plan.updated_at,
        ],
    )
    .await?;
    Ok(())
}

/// A plan's tier defaults by the tiers' order; none where there is no such plan.
pub async fn tier_defaults(db: &impl GenericClient, id: &PlanId) -> Result<Option<TierDefaults>> {
    let rows = query(
        db,
        "SELECT p.version, d.id, d.tier_id, t.name, t.display_name, d.slot_limit
             FROM subscription_plans p
             LEFT JOIN plan_tier_defaults d ON d.plan_id = p.plan_id
             LEFT JOIN device_tiers t ON t.tier_id = d.tier_id
             WHERE p.plan_id = $1 ORDER BY t.sort_order, t.tier_id",
        &[&id],
    )
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let entry = |row: &Row| {
        Some(PlanTier {
            id: row.get::<_, Option<i64>>("id")?,
            plan_id: id.clone(),
            tier_id: row.get("tier_id"),
            name: row.get("name"),
            display_name: row.get("display_name"),
            slot_limit: row.get("slot_limit"),
        })
    };
    Ok(Some(TierDefaults {
        plan_id: id.clone(),
        version: first.get("version"),
        tier_defaults: rows.iter().filter_map(entry).collect(),
    }))
}

/// The first tier among these that does not exist.
pub async fn first_unknown_tier(
    tx: &Transaction<'_>,
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
pub async fn replace_tier_defaults(
    tx: &Transaction<'_>,
    id: &PlanId,
    defaults: &[TierDefault],
) -> Result<()> {
    let tiers: Vec<i32> = defaults.iter().map(|entry| entry.tier_id.get_i32()).collect();
    let limits: Vec<i32> = defaults.iter().map(|entry| entry.slot_limit.get_i32()).collect();
    execute(tx, "DELETE FROM plan_tier_defaults WHERE plan_id = $1", &[&id]).await?;
    execute(
        tx,
        "INSERT INTO plan_tier_defaults (plan_id, tier_id, slot_limit) SELECT $1, *
         FROM unnest($2::integer[], $3::integer[])",
        &[&id, &tiers, &limits],
    )
    .await?;
    Ok(())
}

/// What these plans limit, by name.
pub async fn limits(
    db: &impl GenericClient,
    ids: impl Iterator<Item = &PlanId>,
) -> Result<BTreeMap<PlanId, BTreeMap<String, i64>>> {
    let ids: Vec<&str> = ids.map(PlanId::as_str).collect();
    let rows = query_keys(
        db,
        |given| format!("SELECT plan_id, limits FROM subscription_plans WHERE plan_id {given}"),
        &ids,
    )
    .await?;
    rows.iter()
        .map(|row| {
            let Json(limits): Json<BTreeMap<String, i64>> = row.get("limits");
            Ok((row.try_get("plan_id")?, limits))
        })
        .collect()
}

/// Whether any plan limits something of this name.
pub async fn any_limits(db: &impl GenericClient, name: &str) -> Result<bool> {
    Ok(query_one(
        db,
        "SELECT EXISTS (SELECT FROM subscription_plans WHERE jsonb_exists(limits, $1))",
        &[&name],
    )
    .await?
    .get(0))
}
