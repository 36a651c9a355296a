//! `device_tiers`.

use deadpool_postgres::{GenericClient, Transaction};
use serde_json::{Map, Value};
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::model::Tier;
use crate::Result;
use crate::base::ids::StripePriceId;
use crate::base::paging::Page;
use crate::db::{Conditions, Planner, execute, query_one, query_opt};

/// A tier's row with the present prices of its slots.
const TIER: &str = "SELECT t.tier_id, t.name, t.display_name, t.description, t.features,
                    t.addon_monthly_price_cents, t.addon_annual_price_cents, t.sort_order,
                    t.is_active, t.version, t.created_at, t.updated_at,
       (SELECT stripe_price_id FROM stripe_prices WHERE tier_id = t.tier_id AND interval = 'month'
       AND is_current) AS addon_stripe_price_id,
       (SELECT stripe_price_id FROM stripe_prices WHERE tier_id = t.tier_id AND interval = 'year'
       AND is_current) AS addon_stripe_annual_price_id
FROM device_tiers t";

fn tier(row: &Row) -> Result<Tier> {
    let price = |column| row.get::<_, Option<&str>>(column).map(StripePriceId::parse).transpose();
    let Json(features): Json<Map<String, Value>> = row.get("features");
    Ok(Tier {
        tier_id: row.get("tier_id"),
        name: row.get("name"),
        display_name: row.get("display_name"),
        description: row.get("description"),
        features,
        addon_monthly_price_cents: row.get("addon_monthly_price_cents"),
        addon_annual_price_cents: row.get("addon_annual_price_cents"),
        addon_stripe_price_id: price("addon_stripe_price_id")?,
        addon_stripe_annual_price_id: price("addon_stripe_annual_price_id")?,
        sort_order: row.get("sort_order"),
        is_active: row.get("is_active"),
        version: row.get("version"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    })
}

/// A page in the tiers' order, and one more.
pub async fn list(
    db: &impl Planner,
    page: &Page<(i32, i32)>,
    active_only: bool,
) -> Result<Vec<Tier>> {
    let mut conditions = Conditions::default();
    if active_only {
        conditions.plain("t.is_active");
    }
    if let Some((sort_order, id)) = page.after {
        conditions.and_two("(t.sort_order, t.tier_id) > (?, ?)", sort_order, id);
    }
    conditions.page(db, TIER, "t.sort_order, t.tier_id", page).await?.iter().map(tier).collect()
}

/// The tier of this number, retired ones too.
pub async fn find(db: &impl GenericClient, id: i32) -> Result<Option<Tier>> {
    let row = query_opt(db, &format!("{TIER} WHERE t.tier_id = $1"), &[&id]).await?;
    row.as_ref().map(tier).transpose()
}

/// The same, and nobody else changes it before this transaction ends.
pub async fn lock(tx: &Transaction<'_>, id: i32) -> Result<Option<Tier>> {
    let row =
        query_opt(tx, &format!("{TIER} WHERE t.tier_id = $1 FOR UPDATE OF t"), &[&id]).await?;
    row.as_ref().map(tier).transpose()
}

/// Inserts a tier and returns its number; none where its name is taken.
pub async fn insert(tx: &Transaction<'_>, tier: &Tier) -> Result<Option<i32>> {
    let row = query_opt(
        tx,
        "INSERT INTO device_tiers (name, display_name, description, features,
         addon_monthly_price_cents, addon_annual_price_cents, sort_order, is_active, version,
         created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT (name) DO NOTHING RETURNING tier_id",
        &[
            &tier.name,
            &tier.display_name,
            &tier.description,
            &Json(&tier.features),
            &tier.addon_monthly_price_cents,
            &tier.addon_annual_price_cents,
            &tier.sort_order,
            &tier.is_active,
            &tier.version,
            &tier.created_at,
            &tier.updated_at,
        ],
    )
    .await?;
    Ok(row.map(|row| row.get(0)))
}

/// Writes a locked tier. Its prices are `prices::assign`'s.
pub async fn save(tx: &Transaction<'_>, tier: &Tier) -> Result<()> {
    execute(
        tx,
        "UPDATE device_tiers SET display_name = $2, description = $3, features = $4,
         addon_monthly_price_cents = $5, addon_annual_price_cents = $6, sort_order = $7,
         is_active = $8, version = $9, updated_at = $10
         WHERE tier_id = $1",
        &[
            &tier.tier_id,
            &tier.display_name,
            &tier.description,
            &Json(&tier.features),
            &tier.addon_monthly_price_cents,
            &tier.addon_annual_price_cents,
            &tier.sort_order,
            &tier.is_active,
            &tier.version,
            &tier.updated_at,
        ],
    )
    .await?;
    Ok(())
}

/// Whether there is a tier of this name.
pub async fn exists(db: &impl GenericClient, name: &str) -> Result<bool> {
    Ok(query_one(db, "SELECT EXISTS (SELECT FROM device_tiers WHERE name = $1)", &[&name])
        .await?
        .get(0))
}
