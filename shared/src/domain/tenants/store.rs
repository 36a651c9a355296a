//! `tenants` and `stripe_customer_aliases`.

use std::sync::Arc;

use futures::future::try_join;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::model;
use super::model::{Profile, Tenant, TenantFilter, TenantStatus, TenantSummary};
use crate::Result;
use crate::base::fields::{Percentage, Text};
use crate::base::ids::{StripeCustomerId, TenantId};
use crate::base::paging::Page;
use crate::db::{Conditions, Executor, Line, Transaction, execute, query_one, query_opt};

crate::row! {
    mod columns: tenant: Tenant, "tenants" as "t", key tenant_id,
    once { created_at }
    changes {
        status,
        support_tier,
        sla_level = tenant.sla_level.map(Percentage::hundredths),
        stripe_customer_id,
        metadata = Json(&tenant.metadata),
        erased_at,
    }
    part save_profile of profile: Profile {
        name,
        legal_name,
        contact_email,
        contact_name,
        billing_email,
        phone,
        industry,
        company_size,
        address_line1,
        address_line2,
        city,
        state_province,
        postal_code,
        country,
        data_residency_region,
    } with { version, updated_at }
    read {}
}

fn select() -> String {
    format!("SELECT {} FROM tenants t", columns::COLUMNS)
}

fn tenant(row: &Row) -> Result<Tenant> {
    let Json(metadata): Json<Map<String, Value>> = row.get("metadata");
    Ok(Tenant {
        tenant_id: row.try_get("tenant_id")?,
        profile: columns::profile(row)?,
        status: row.try_get("status")?,
        support_tier: row.get("support_tier"),
        sla_level: row.get::<_, Option<i32>>("sla_level").map(Percentage::new).transpose()?,
        stripe_customer_id: row.try_get("stripe_customer_id")?,
        metadata,
        erased_at: row.get("erased_at"),
        version: row.get("version"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    })
}

/// Gives the transaction its tenant, whose rows and no others customers' role then sees. False if
/// there is no such tenant, or it is deleted.
pub(crate) async fn enter(line: &Arc<Line>, id: &TenantId) -> Result<bool> {
    let set = "SELECT set_config('app.tenant_id', $1, true)";
    let find = "SELECT FROM tenants WHERE tenant_id = $1 AND status = 'ACTIVE'";
    // The second sees nothing without the first, and runs after it.
    let (_, found) = try_join(execute(line, set, &[&id]), query_opt(line, find, &[&id])).await?;
    Ok(found.is_some())
}

/// Has customers' role see this tenant until the transaction ends, also a deleted one.
pub(crate) async fn enter_any(line: &Arc<Line>, id: &TenantId) -> Result<()> {
    execute(line, "SELECT set_config('app.tenant_id', $1, true)", &[&id]).await.map(drop)
}

/// What a tenant is called, and whether it is in use.
pub(crate) async fn summary(db: &impl Executor, id: &TenantId) -> Result<Option<TenantSummary>> {
    let sql = "SELECT tenant_id, name, status FROM tenants WHERE tenant_id = $1";
    let row = query_opt(db, sql, &[&id]).await?;
    let read = |row: Row| {
        let (tenant_id, status) = (row.try_get("tenant_id")?, row.try_get("status")?);
        Ok(TenantSummary { tenant_id, name: row.get("name"), status })
    };
    row.map(read).transpose()
}

/// A page of the tenants that match the filter, by id, and one more.
pub(crate) async fn list(
    db: &impl Executor,
    filter: &TenantFilter,
    page: &Page<TenantId>,
) -> Result<Vec<Tenant>> {
    let mut conditions = Conditions::default();
    if let Some(typed) =
        filter.q.as_ref().map(Text::as_str).filter(|typed| !typed.trim().is_empty())
    {
        // The expression of the index tenants_search. Nothing is found by what has no word.
        let words = "search_words(t.tenant_id || ' ' || t.name || ' ' || \
                     coalesce(t.legal_name, ''))";
        conditions.and(&format!("{words} @@ search_query(?)"), typed.to_owned());
    }
    if let Some(email) = &filter.email {
        let email = email.as_str().to_owned();
        conditions.and_two(
            "(lower(t.contact_email COLLATE pg_unicode_fast) = lower(? COLLATE pg_unicode_fast) OR
              lower(t.billing_email COLLATE pg_unicode_fast) = lower(? COLLATE pg_unicode_fast))",
            email.clone(),
            email,
        );
    }
    if let Some(customer) = &filter.stripe_customer_id {
        let customer = customer.as_str().to_owned();
        conditions.and_two(
            "t.tenant_id IN (SELECT tenant_id FROM tenants WHERE stripe_customer_id = ?
                             UNION ALL SELECT tenant_id FROM stripe_customer_aliases
                             WHERE stripe_customer_id = ?)",
            customer.clone(),
            customer,
        );
    }
    conditions.equal("t.status", filter.status);
    if let Some(after) = &page.after {
        conditions.and("t.tenant_id > ?", after.as_str().to_owned());
    }
    conditions.page(db, &select(), "t.tenant_id", page).await?.iter().map(tenant).collect()
}

/// The tenant of this id, also a deleted one.
pub(crate) async fn find(db: &impl Executor, id: &TenantId) -> Result<Option<Tenant>> {
    let row = query_opt(db, &format!("{} WHERE t.tenant_id = $1", select()), &[&id]).await?;
    row.as_ref().map(tenant).transpose()
}

/// The tenant's name.
///
/// # Errors
/// `tenant_not_found`.
pub(crate) async fn name(db: &impl Executor, id: &TenantId) -> Result<String> {
    let row = query_opt(db, "SELECT name FROM tenants WHERE tenant_id = $1", &[&id]).await?;
    row.map(|row| row.get(0)).ok_or_else(model::not_found)
}

/// The tenant's name. A share lock keeps it from being deleted before this transaction ends, so it
/// may get a subscription.
///
/// # Errors
/// `tenant_not_found`, `tenant_deleted`.
pub(crate) async fn share(tx: &Transaction, id: &TenantId) -> Result<String> {
    let row =
        query_opt(tx, "SELECT name, status FROM tenants WHERE tenant_id = $1 FOR SHARE", &[&id])
            .await?;
    let row = row.ok_or_else(model::not_found)?;
    if row.try_get::<_, TenantStatus>("status")? == TenantStatus::Deleted {
        return Err(model::deleted(id));
    }
    Ok(row.get("name"))
}

/// Locks the tenant, also a deleted one: until this transaction ends no other one changes it or
/// gives it a subscription.
pub(crate) async fn lock(tx: &Transaction, id: &TenantId) -> Result<Option<Tenant>> {
    let sql = format!("{} WHERE t.tenant_id = $1 FOR UPDATE", select());
    query_opt(tx, &sql, &[&id]).await?.as_ref().map(tenant).transpose()
}

/// The tenant whose customer this is, linked or as an alias.
pub(crate) async fn find_by_customer(
    db: &impl Executor,
    customer: &StripeCustomerId,
) -> Result<Option<TenantId>> {
    let row = query_opt(
        db,
        "SELECT tenant_id FROM tenants WHERE stripe_customer_id = $1
             UNION ALL SELECT tenant_id FROM stripe_customer_aliases WHERE stripe_customer_id = $1
             LIMIT 1",
        &[&customer],
    )
    .await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

/// Inserts a tenant. False if its id is taken, also by a transaction that has just committed.
pub(crate) async fn insert(tx: &Transaction, tenant: &Tenant) -> Result<bool> {
    Ok(columns::insert(tx, tenant, "ON CONFLICT (tenant_id) DO NOTHING").await? == 1)
}

/// Writes a locked tenant.
pub(crate) async fn save(tx: &Transaction, tenant: &Tenant) -> Result<()> {
    columns::save(tx, tenant).await
}

/// Locks the tenant's present customer and this one, before the tenant's row: only this transaction
/// then decides to whom they belong. Events hold the same locks in the same order
/// (`events::store::claim_alone`).
pub(crate) async fn lock_customers(
    tx: &Transaction,
    id: &TenantId,
    customer: Option<&StripeCustomerId>,
) -> Result<()> {
    tx.write(
        "SELECT pg_advisory_xact_lock(hashtextextended(customer, 0))
         FROM (SELECT stripe_customer_id FROM tenants WHERE tenant_id = $1 UNION SELECT $2::text
         ORDER BY 1) AS customers (customer)
         WHERE customer IS NOT NULL",
        &[&id, &customer],
    )
    .await
}

/// Links a customer to a tenant that has none.
pub(crate) async fn link_customer(
    tx: &Transaction,
    id: &TenantId,
    customer: &StripeCustomerId,
    now: Timestamp,
) -> Result<()> {
    tx.write(
        "UPDATE tenants SET stripe_customer_id = $2, version = version + 1, updated_at = $3
         WHERE tenant_id = $1 AND stripe_customer_id IS NULL",
        &[&id, &customer, &now],
    )
    .await
}

/// Adds an alias: a second customer of the tenant. False if it is one already.
pub(crate) async fn insert_alias(
    tx: &Transaction,
    id: &TenantId,
    customer: &StripeCustomerId,
    now: Timestamp,
) -> Result<bool> {
    let inserted = execute(
        tx,
        "INSERT INTO stripe_customer_aliases (stripe_customer_id, tenant_id, created_at)
         VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        &[&customer, &id, &now],
    )
    .await?;
    Ok(inserted == 1)
}

/// Writes the profile of a locked tenant, and no other column: customers' role may write no more.
pub(crate) async fn save_profile(tx: &Transaction, tenant: &Tenant) -> Result<()> {
    columns::save_profile(tx, tenant).await
}

/// Whether the customer is an alias of the tenant.
pub(crate) async fn is_alias(
    tx: &Transaction,
    id: &TenantId,
    customer: &StripeCustomerId,
) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM stripe_customer_aliases WHERE tenant_id = $1
               AND stripe_customer_id = $2)";
    Ok(query_one(tx, sql, &[&id, &customer]).await?.get(0))
}

/// Links a customer to the transaction's tenant, whose row is locked. False if the tenant has one,
/// or the customer belongs to another tenant.
pub(crate) async fn link_own_customer(
    tx: &Transaction,
    id: &TenantId,
    customer: &StripeCustomerId,
    now: Timestamp,
) -> Result<bool> {
    if !query_one(tx, "SELECT link_stripe_customer($1)", &[&customer]).await?.get::<_, bool>(0) {
        return Ok(false);
    }
    tx.write(
        "UPDATE tenants SET version = version + 1, updated_at = $2 WHERE tenant_id = $1",
        &[&id, &now],
    )
    .await?;
    Ok(true)
}
