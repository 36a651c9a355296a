//! What an operator does with tenants.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::model::{
    NewTenant, Tenant, TenantFilter, TenantStatus, TenantUpdate, deleted, not_found,
};
use super::{follow, model, store};
use crate::base::caller::Person;
use crate::base::error::{Error, Result};
use crate::base::fields::Change;
use crate::base::ids::TenantId;
use crate::base::paging::{Page, Slice};
use crate::base::version::IfMatch;
use crate::db::{Db, Transaction};
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::idempotency::model::Key;
use crate::domain::{audit, families, idempotency, outbox};

/// A page of the tenants that match the filter, by id; also deleted ones, unless it excludes them.
///
/// # Errors
/// `Database`.
pub async fn list(db: &Db, filter: &TenantFilter, page: &Page<TenantId>) -> Result<Slice<Tenant>> {
    let tenants = store::list(&db.connection().await?, filter, page).await?;
    Ok(page.cut(tenants, |tenant| tenant.tenant_id.clone()))
}

/// One tenant, also a deleted one.
///
/// # Errors
/// `tenant_not_found`.
pub async fn get(db: &Db, id: &TenantId) -> Result<Tenant> {
    store::find(&db.connection().await?, id).await?.ok_or_else(not_found)
}

/// Adds a tenant.
///
/// # Errors
/// `Conflict`: `tenant_exists`, also if the tenant of this id is deleted; `customer_taken`; those
/// of the idempotency key.
pub async fn create(
    db: &Db,
    by: &Person,
    key: Option<&Key>,
    new: NewTenant,
    now: Timestamp,
) -> Result<Tenant> {
    let tx = db.begin().await?;
    if let Some(tenant) = idempotency::earlier(&tx, key, now).await? {
        return Ok(tenant);
    }
    let tenant = Tenant::from_new(new, now);
    store::lock_customers(&tx, &tenant.tenant_id, tenant.stripe_customer_id.as_ref()).await?;
    customer_is_free(&tx, &tenant).await?;
    if !store::insert(&tx, &tenant).await? {
        return Err(Error::conflict(
            "tenant_exists",
            format!("Tenant '{}' already exists", tenant.tenant_id),
        ));
    }
    outbox::store::insert_organization(&tx, &tenant.tenant_id, now).await?;
    record(&tx, AuditEvent::TenantCreated, by, None, &tenant, now).await?;
    idempotency::keep(&tx, key, &tenant, now).await?;
    tx.commit().await?;
    Ok(tenant)
}

/// Applies the update. If every value is already so, nothing changes, not even the version.
///
/// # Errors
/// `tenant_not_found`, `tenant_deleted`, `version_changed`, `no_fields`, `customer_taken`.
pub async fn update(
    db: &Db,
    by: &Person,
    id: &TenantId,
    if_match: &IfMatch,
    update: TenantUpdate,
    now: Timestamp,
) -> Result<Tenant> {
    let tx = db.begin().await?;
    // In the order of events: the customer is locked before the tenant.
    if let Change::Set(customer) = &update.stripe_customer_id {
        store::lock_customers(&tx, id, customer.as_ref()).await?;
    }
    let before = store::lock(&tx, id).await?.ok_or_else(not_found)?;
    if before.is_deleted() {
        return Err(deleted(id));
    }
    if_match.check(before.version)?;
    if update.is_empty() {
        return Err(Error::malformed("no_fields", "No fields to update"));
    }
    let mut tenant = update.applied_to(before.clone());
    if tenant == before {
        return Ok(tenant);
    }
    customer_is_free(&tx, &tenant).await?;
    (tenant.version, tenant.updated_at) = (before.version + 1, now);
    store::save(&tx, &tenant).await?;
    follow::follow(&tx, &before, &tenant, now).await?;
    record(&tx, AuditEvent::TenantUpdated, by, Some(json!(before)), &tenant, now).await?;
    tx.commit().await?;
    Ok(tenant)
}

/// Marks a tenant as deleted. Its rows stay, and so does its id. A deleted tenant stays as it is.
///
/// A transaction that gives it a subscription holds its row (`store::share`, `store::lock`), so
/// either the subscription is seen here, or that transaction sees the deletion.
///
/// # Errors
/// `tenant_not_found`, `version_changed`; `live_subscription` while one gives access.
pub async fn delete(
    db: &Db,
    by: &Person,
    id: &TenantId,
    if_match: &IfMatch,
    now: Timestamp,
) -> Result<()> {
    let tx = db.begin().await?;
    let before = store::lock(&tx, id).await?.ok_or_else(not_found)?;
    if before.is_deleted() {
        return Ok(());
    }
    if_match.check(before.version)?;
    let live = families::rows::live_subscriptions(&tx, id).await?;
    if !live.is_empty() {
        return Err(Error::conflict("live_subscription", model::still_live(id, &live)));
    }
    let tenant = Tenant {
        status: TenantStatus::Deleted,
        version: before.version + 1,
        updated_at: now,
        ..before.clone()
    };
    store::save(&tx, &tenant).await?;
    record(&tx, AuditEvent::TenantDeleted, by, Some(json!(before)), &tenant, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Refuses a customer that belongs to another tenant, linked or as an alias.
pub(crate) async fn customer_is_free(tx: &Transaction, tenant: &Tenant) -> Result<()> {
    let Some(customer) = &tenant.stripe_customer_id else { return Ok(()) };
    match store::find_by_customer(tx, customer).await? {
        Some(owner) if owner != tenant.tenant_id => Err(Error::conflict(
            "customer_taken",
            format!("Stripe customer '{customer}' already belongs to tenant '{owner}'"),
        )),
        _ => Ok(()),
    }
}

pub(crate) async fn record(
    tx: &Transaction,
    event_type: AuditEvent,
    by: &Person,
    previous: Option<Value>,
    new: &Tenant,
    now: Timestamp,
) -> Result<()> {
    let (tenant, new_state) = (Some(&new.tenant_id), Some(json!(new)));
    let entry = Entry {
        tenant,
        previous_state: previous,
        new_state,
        ..Entry::new(event_type, Actor::Operator(by), now)
    };
    audit::store::insert(tx, &entry).await
}
