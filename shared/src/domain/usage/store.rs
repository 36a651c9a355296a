//! `limit_usage`.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::model::Used;
use crate::Result;
use crate::base::ids::TenantId;
use crate::db::{Executor, Transaction, query};

/// Everything that is known of a tenant's use, by name.
pub(crate) async fn read(db: &impl Executor, tenant: &TenantId) -> Result<BTreeMap<String, Used>> {
    let sql = "SELECT name, used, as_of FROM limit_usage WHERE tenant_id = $1";
    let rows = query(db, sql, &[&tenant]).await?;
    let used = rows
        .iter()
        .map(|row| (row.get("name"), Used { used: row.get("used"), as_of: row.get("as_of") }));
    Ok(used.collect())
}

/// Which of these names a plan limits, or limited when this tenant bought it, and whether each is a
/// feature.
pub(super) async fn known(
    tx: &Transaction,
    tenant: &TenantId,
    counts: &BTreeMap<String, i64>,
) -> Result<BTreeMap<String, bool>> {
    let names: Vec<&str> = counts.keys().map(String::as_str).collect();
    let sql = "SELECT named.key AS name, bool_and(jsonb_typeof(named.value) = 'boolean') AS feature
               FROM (SELECT limits FROM subscription_plans
                     UNION ALL
                     SELECT limits FROM subscriptions WHERE tenant_id = $1 AND limits IS NOT NULL)
                    AS held,
               LATERAL jsonb_each(held.limits) AS named WHERE named.key = ANY($2) GROUP BY 1";
    let rows = query(tx, sql, &[&tenant, &names]).await?;
    Ok(rows.iter().map(|row| (row.get("name"), row.get("feature"))).collect())
}

/// Writes counts that are newer than what is known. Of two of one instant the higher one stays, so
/// that the order of their arrival does not matter.
pub(super) async fn record(
    tx: &Transaction,
    tenant: &TenantId,
    counts: &BTreeMap<String, i64>,
    as_of: Timestamp,
    now: Timestamp,
) -> Result<()> {
    let names: Vec<&str> = counts.keys().map(String::as_str).collect();
    let used: Vec<i64> = counts.values().copied().collect();
    // By name, so that two reports at once lock their rows in one order.
    let sql = "INSERT INTO limit_usage AS known (tenant_id, name, used, as_of, updated_at)
               SELECT $1, name, used, $4, $5
               FROM unnest($2::text[], $3::bigint[]) AS reported (name, used) ORDER BY name
               ON CONFLICT (tenant_id, name) DO UPDATE
               SET used = EXCLUDED.used, as_of = EXCLUDED.as_of, updated_at = EXCLUDED.updated_at
               WHERE (EXCLUDED.as_of, EXCLUDED.used) > (known.as_of, known.used)";
    tx.write(sql, &[&tenant, &names, &used, &as_of, &now]).await
}
