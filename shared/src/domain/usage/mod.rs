//! How many there are of what plans limit by name, as those report who know it (docs/billing.md,
//! "Use of named limits").

pub mod model;
pub(crate) mod store;

use std::collections::BTreeMap;

use jiff::Timestamp;

use self::model::{TenantUsage, UsageReport, Used};
use crate::base::clock::Clock;
use crate::base::ids::TenantId;
use crate::db::{Db, Transaction};
use crate::domain::tenants::session::begin;
use crate::outside::keycloak::Keycloak;
use crate::{Error, Result};

/// Keeps what a service reports. What is older than what is known changes nothing, so reports may
/// come twice, at once and in any order. Returns what is known then.
///
/// # Errors
/// `tenant_deleted`; `Invalid` for a name that nothing limits or that is a feature, and for a time
/// ahead of ours.
pub async fn report(db: &Db, report: UsageReport, now: Timestamp) -> Result<TenantUsage> {
    let (tenant, as_of) = (report.tenant_id, report.as_of.get());
    if as_of > now + model::CLOCK_TOLERANCE {
        return Err(Error::invalid("as_of", "must not be in the future"));
    }
    let counts = report.usage.into_map().into_iter().map(|(name, of)| (name, of.get())).collect();
    let tx = begin(db, &tenant).await?;
    model::check_names(&counts, &store::known(&tx, &tenant, &counts).await?)?;
    store::record(&tx, &tenant, &counts, as_of, now).await?;
    let usage = store::read(&tx, &tenant).await?;
    tx.commit().await?;
    Ok(TenantUsage { tenant_id: tenant, usage })
}

/// Counts a tenant's users who may log in. They are in Keycloak, so this is done after each change
/// of them here, with no transaction open.
///
/// # Errors
/// `Upstream`.
pub(crate) async fn count_users(
    keycloak: &Keycloak,
    tenant: &TenantId,
    clock: &Clock,
) -> Result<Used> {
    // Before it is counted: of two counts the one that began later has seen what the other has.
    let as_of = clock.now();
    Ok(Used { used: keycloak.count_enabled(tenant).await?, as_of })
}

/// Keeps a count of users, as a report is kept.
pub(crate) async fn record_users(
    tx: &Transaction,
    tenant: &TenantId,
    users: &Used,
    now: Timestamp,
) -> Result<()> {
    let counts = BTreeMap::from([("users".to_owned(), users.used)]);
    store::record(tx, tenant, &counts, users.as_of, now).await
}
