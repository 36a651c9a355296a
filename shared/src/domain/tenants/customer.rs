//! What a customer does with their own tenant: they read it, and change its profile.

use futures::try_join;
use jiff::Timestamp;
use serde_json::json;

use super::model::{
    Organization, OrganizationUpdate, Tenant, TenantStatus, TenantSummary, deleted, not_found,
};
use super::session::{begin, begin_any};
use super::{follow, store};
use crate::base::caller::{Customer, Person};
use crate::base::ids::TenantId;
use crate::base::version::IfMatch;
use crate::db::{Db, Transaction};
use crate::domain::audit;
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::{Error, Result};

/// What the tenant of a token is called, and whether it is in use; none if it never existed.
///
/// # Errors
/// `Database`.
pub async fn summary(db: &Db, tenant: &TenantId) -> Result<Option<TenantSummary>> {
    let tx = begin_any(db, tenant).await?;
    let (found, ()) = try_join!(store::summary(&tx, tenant), tx.close())?;
    Ok(found)
}

/// A tenant's customer as whom an operator reads what its users see: no rule and no row beyond
/// theirs.
///
/// # Errors
/// `tenant_not_found`; `Conflict` (`tenant_deleted`), because nobody sees anything as its customer.
pub async fn seen_by(db: &Db, person: Person, tenant: TenantId) -> Result<Customer> {
    let found = summary(db, &tenant).await?.ok_or_else(not_found)?;
    if found.status == TenantStatus::Deleted {
        return Err(deleted(&tenant));
    }
    Ok(Customer { person, tenant })
}

/// The own company.
///
/// # Errors
/// `Database`.
pub async fn get(db: &Db, caller: &Customer) -> Result<Organization> {
    let tx = begin(db, &caller.tenant).await?;
    let (tenant, ()) = try_join!(store::find(&tx, &caller.tenant), tx.close())?;
    Ok(tenant.ok_or_else(not_found)?.into())
}

/// Changes the own company's profile. If every value is already so, nothing changes.
///
/// # Errors
/// `version_changed`, `no_fields`.
pub async fn update(
    db: &Db,
    caller: &Customer,
    if_match: &IfMatch,
    update: OrganizationUpdate,
    now: Timestamp,
) -> Result<Organization> {
    let tx = begin(db, &caller.tenant).await?;
    let before = store::lock(&tx, &caller.tenant).await?.ok_or_else(not_found)?;
    if_match.check(before.version)?;
    if update.is_empty() {
        return Err(Error::malformed("no_fields", "No fields to update"));
    }
    let mut after = update.applied_to(before.clone());
    if after != before {
        (after.version, after.updated_at) = (before.version + 1, now);
        store::save_profile(&tx, &after).await?;
        follow::follow(&tx, &before, &after, now).await?;
        record(&tx, caller, before, &after, now).await?;
    }
    tx.commit().await?;
    Ok(after.into())
}

async fn record(
    tx: &Transaction,
    caller: &Customer,
    before: Tenant,
    after: &Tenant,
    now: Timestamp,
) -> Result<()> {
    let entry = Entry {
        tenant: Some(&caller.tenant),
        previous_state: Some(json!(Organization::from(before))),
        new_state: Some(json!(Organization::from(after.clone()))),
        ..Entry::new(AuditEvent::OrganizationUpdated, Actor::Customer(&caller.person), now)
    };
    audit::store::insert(tx, &entry).await
}
