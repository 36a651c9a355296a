//! `subscription_plans` and `stripe_prices`.

use tokio_postgres::Transaction;

use super::model::{Plan, PriceOf};
use crate::Result;
use crate::ids::{PlanId, StripePriceId};

/// The plan of this id, retired ones too: who paid for one has it.
pub async fn find(tx: &Transaction<'_>, id: &PlanId) -> Result<Option<Plan>> {
    let row = tx.query_opt("SELECT device_limit FROM subscription_plans WHERE plan_id = $1", &[&id.as_str()]).await?;
    Ok(row.map(|row| Plan { plan_id: id.clone(), device_limit: row.get(0) }))
}

/// What those of these prices that are mapped stand for.
pub async fn prices(tx: &Transaction<'_>, ids: &[StripePriceId]) -> Result<Vec<(StripePriceId, PriceOf)>> {
    let ids: Vec<&str> = ids.iter().map(StripePriceId::as_str).collect();
    let rows = tx.query("SELECT stripe_price_id, plan_id, tier_id FROM stripe_prices WHERE stripe_price_id = ANY($1)", &[&ids]).await?;
    rows.iter()
        .map(|row| {
            let of = match row.get::<_, Option<i32>>("tier_id") {
                Some(tier) => PriceOf::Tier(tier),
                None => PriceOf::Plan(PlanId::parse(row.get("plan_id"))?),
            };
            Ok((StripePriceId::parse(row.get("stripe_price_id"))?, of))
        })
        .collect()
}
