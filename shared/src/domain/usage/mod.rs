//! How many there are of what plans limit by name, as those report who know it (docs/billing.md,
//! "Use of named limits").

pub mod model;
pub(crate) mod store;

use jiff::Timestamp;

use self::model::{TenantUsage, UsageReport};
use crate::db::Db;
use crate::domain::tenants::session::begin;
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
    let mut db = db.connection().await?;
    let tx = begin(&mut db, &tenant).await?;
    model::check_names(&counts, &store::known(&tx, &tenant, &counts).await?)?;
    store::record(&tx, &tenant, &counts, as_of, now).await?;
    let usage = store::read(&tx, &tenant).await?;
    tx.commit().await?;
    Ok(TenantUsage { tenant_id: tenant, usage })
}
