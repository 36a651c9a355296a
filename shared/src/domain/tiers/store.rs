//! `device_tiers`.

use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::model::Tier;
use crate::Result;
use crate::base::ids::StripePriceId;
use crate::base::paging::Page;
use crate::db::{Conditions, Executor, Transaction, query_one, query_opt};
use crate::domain::prices::model::Price;

crate::row! {
    mod columns: tier: Tier, "device_tiers" as "t", generated tier_id,
    once { name, created_at }
    changes {
        display_name,
        description,
        features = Json(&tier.features),
        addon_monthly_price_cents,
        addon_annual_price_cents,
        sort_order,
        is_active,
        version,
        updated_at,
    }
    read {}
}

/// A tier's row with the present prices of its slots.
fn select() -> String {
    format!(
        "SELECT {},
             default_currency() AS currency,
             (SELECT jsonb_agg(jsonb_build_object('currency', currency, 'interval', interval,
              'stripe_price_id', stripe_price_id, 'cents', cents)) FROM stripe_prices
              WHERE tier_id = t.tier_id AND is_further) AS further_prices,
             (SELECT stripe_price_id FROM stripe_prices
              WHERE tier_id = t.tier_id AND interval = 'month' AND is_current)
             AS addon_stripe_price_id,
             (SELECT stripe_price_id FROM stripe_prices
              WHERE tier_id = t.tier_id AND interval = 'year' AND is_current)
             AS addon_stripe_annual_price_id
         FROM device_tiers t",
        columns::COLUMNS
    )
}

fn tier(row: &Row) -> Result<Tier> {
    let price = |column| row.get::<_, Option<&str>>(column).map(StripePriceId::parse).transpose();
    let Json(features): Json<Map<String, Value>> = row.get("features");
    let further: Option<Json<Vec<Price>>> = row.try_get("further_prices")?;
    let mut tier = Tier {
        tier_id: row.get("tier_id"),
        name: row.get("name"),
        display_name: row.get("display_name"),
        description: row.get("description"),
        features,
        currency: row.try_get("currency")?,
        addon_monthly_price_cents: row.get("addon_monthly_price_cents"),
        addon_annual_price_cents: row.get("addon_annual_price_cents"),
        addon_stripe_price_id: price("addon_stripe_price_id")?,
        addon_stripe_annual_price_id: price("addon_stripe_annual_price_id")?,
        prices: Vec::new(),
        sort_order: row.get("sort_order"),
        is_active: row.get("is_active"),
        version: row.get("version"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    };
    tier.all_prices().list(further.map(|Json(further)| further));
    Ok(tier)
}

/// A page in the tiers' order, and one more.
pub(crate) async fn list(
    db: &impl Executor,
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
    conditions
        .page(db, &select(), "t.sort_order, t.tier_id", page)
        .await?
        .iter()
        .map(tier)
        .collect()
}

/// The tier of this number, also a retired one.
pub(crate) async fn find(db: &impl Executor, id: i32) -> Result<Option<Tier>> {
    let row = query_opt(db, &format!("{} WHERE t.tier_id = $1", select()), &[&id]).await?;
    row.as_ref().map(tier).transpose()
}

/// The same, locked until this transaction ends.
pub(crate) async fn lock(tx: &Transaction, id: i32) -> Result<Option<Tier>> {
    let sql = format!("{} WHERE t.tier_id = $1 FOR UPDATE OF t", select());
    query_opt(tx, &sql, &[&id]).await?.as_ref().map(tier).transpose()
}

/// Inserts a tier and returns its number; `None` if its name is taken.
pub(crate) async fn insert(tx: &Transaction, tier: &Tier) -> Result<Option<i32>> {
    let row = columns::insert(tx, tier, "ON CONFLICT (name) DO NOTHING").await?;
    Ok(row.map(|row| row.get(0)))
}

/// Writes a locked tier, without its prices: `prices::assign` writes those.
pub(crate) async fn save(tx: &Transaction, tier: &Tier) -> Result<()> {
    columns::save(tx, tier).await
}

/// Makes the next version of a tier whose prices have changed by themselves.
pub(crate) async fn touch(tx: &Transaction, id: i32, now: Timestamp) -> Result<()> {
    let sql = "UPDATE device_tiers SET version = version + 1, updated_at = $2 WHERE tier_id = $1";
    tx.write(sql, &[&id, &now]).await
}

/// Whether there is a tier of this name.
pub(crate) async fn exists(db: &impl Executor, name: &str) -> Result<bool> {
    Ok(query_one(db, "SELECT EXISTS (SELECT FROM device_tiers WHERE name = $1)", &[&name])
        .await?
        .get(0))
}
