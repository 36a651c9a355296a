//! `tenants` and `stripe_customer_aliases`.

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::model;
use super::model::{Profile, TenantFilter, TenantStatus};
use crate::Result;
use crate::base::fields::Text;
use crate::base::ids::{StripeCustomerId, TenantId};
use crate::base::paging::Page;
use crate::db::{Conditions, Planner, execute, query_one, query_opt};

/// A tenant, as far as a checkout must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Whether it was deleted; its id is never given to another.
    pub deleted: bool,
    /// The linked customer.
    pub stripe_customer_id: Option<StripeCustomerId>,
}

/// Locks the tenant of this id: nobody else changes it, or gives it a subscription, before this
/// transaction ends.
pub async fn lock(tx: &Transaction<'_>, id: &TenantId) -> Result<Option<Tenant>> {
    let tenant = lock_whole(tx, id).await?;
    Ok(tenant.map(|tenant| Tenant {
        deleted: tenant.is_deleted(),
        stripe_customer_id: tenant.stripe_customer_id,
    }))
}

/// A tenant's row.
const TENANT: &str =
    "SELECT t.tenant_id, t.name, t.status, t.legal_name, t.contact_email, t.contact_name,
     t.billing_email, t.phone, t.industry, t.company_size, t.address_line1, t.address_line2, t.city,
     t.state_province, t.postal_code, t.country, t.data_residency_region, t.support_tier,
     t.stripe_customer_id, t.metadata, t.version, t.created_at, t.updated_at
FROM tenants t";

fn tenant(row: &Row) -> Result<model::Tenant> {
    let Json(metadata): Json<Map<String, Value>> = row.get("metadata");
    Ok(model::Tenant {
        tenant_id: row.try_get("tenant_id")?,
        name: row.get("name"),
        status: row.try_get("status")?,
        legal_name: row.get("legal_name"),
        contact_email: row.get("contact_email"),
        contact_name: row.get("contact_name"),
        billing_email: row.get("billing_email"),
        phone: row.get("phone"),
        industry: row.get("industry"),
        company_size: row.get("company_size"),
        address_line1: row.get("address_line1"),
        address_line2: row.get("address_line2"),
        city: row.get("city"),
        state_province: row.get("state_province"),
        postal_code: row.get("postal_code"),
        country: row.get("country"),
        data_residency_region: row.get("data_residency_region"),
        support_tier: row.get("support_tier"),
        stripe_customer_id: row.try_get("stripe_customer_id")?,
        metadata,
        version: row.get("version"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    })
}

/// A page of the tenants that the filter lets through, by id, and one more.
pub async fn list(
    db: &impl Planner,
    filter: &TenantFilter,
    page: &Page<TenantId>,
) -> Result<Vec<model::Tenant>> {
    let mut conditions = Conditions::default();
    if let Some(typed) =
        filter.q.as_ref().map(Text::as_str).filter(|typed| !typed.trim().is_empty())
    {
        let Some(terms) = model::search_terms(typed) else { return Ok(Vec::new()) };
        // The expression of the index tenants_words.
        let words = "to_tsvector('simple', t.tenant_id || ' ' || t.name || ' ' || \
                     coalesce(t.legal_name, ''))";
        conditions.and(&format!("{words} @@ to_tsquery('simple', ?)"), terms);
    }
    if let Some(email) = &filter.email {
        let email = email.as_str().to_owned();
        conditions.and_two(
            "(lower(t.contact_email) = lower(?) OR lower(t.billing_email) = lower(?))",
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
    conditions.page(db, TENANT, "t.tenant_id", page).await?.iter().map(tenant).collect()
}

/// The tenant of this id, deleted ones too.
pub async fn find(db: &impl GenericClient, id: &TenantId) -> Result<Option<model::Tenant>> {
    let row = query_opt(db, &format!("{TENANT} WHERE t.tenant_id = $1"), &[&id]).await?;
    row.as_ref().map(tenant).transpose()
}

/// Its name.
///
/// # Errors
/// `tenant_not_found`.
pub async fn name(db: &impl GenericClient, id: &TenantId) -> Result<String> {
    let row = query_opt(db, "SELECT name FROM tenants WHERE tenant_id = $1", &[&id]).await?;
    row.map(|row| row.get(0)).ok_or_else(super::model::not_found)
}

/// The name of a tenant that nobody deletes before this transaction ends: it may get a
/// subscription.
///
/// # Errors
/// `tenant_not_found`, `tenant_deleted`.
pub async fn share(tx: &Transaction<'_>, id: &TenantId) -> Result<String> {
    let row =
        query_opt(tx, "SELECT name, status FROM tenants WHERE tenant_id = $1 FOR SHARE", &[&id])
            .await?;
    let row = row.ok_or_else(super::model::not_found)?;
    if row.try_get::<_, TenantStatus>("status")? == TenantStatus::Deleted {
        return Err(super::model::deleted(id));
    }
    Ok(row.get("name"))
}

/// The same as `lock`, with all that it is.
pub async fn lock_whole(tx: &Transaction<'_>, id: &TenantId) -> Result<Option<model::Tenant>> {
    let row = query_opt(tx, &format!("{TENANT} WHERE t.tenant_id = $1 FOR UPDATE"), &[&id]).await?;
    row.as_ref().map(tenant).transpose()
}

/// The tenant whose customer this is, linked or as an alias.
pub async fn find_by_customer(
    tx: &Transaction<'_>,
    customer: &StripeCustomerId,
) -> Result<Option<TenantId>> {
    let row = query_opt(
        tx,
        "SELECT tenant_id FROM tenants WHERE stripe_customer_id = $1
             UNION ALL SELECT tenant_id FROM stripe_customer_aliases WHERE stripe_customer_id = $1
             LIMIT 1",
        &[&customer],
    )
    .await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

/// Inserts the tenant of a checkout under this id. False where the id is taken.
pub async fn insert(
    tx: &Transaction<'_>,
    id: &TenantId,
    profile: &Profile,
    customer: Option<&StripeCustomerId>,
    now: Timestamp,
) -> Result<bool> {
    insert_whole(
        tx,
        &model::Tenant::from_checkout(id.clone(), profile.clone(), customer.cloned(), now),
    )
    .await
}

/// Inserts a tenant. False where its id is taken, also by one whose transaction has just committed.
pub async fn insert_whole(tx: &Transaction<'_>, tenant: &model::Tenant) -> Result<bool> {
    let inserted = execute(
        tx,
        "INSERT INTO tenants (tenant_id, name, status, legal_name, contact_email, contact_name,
         billing_email, phone, industry, company_size, address_line1, address_line2, city,
         state_province, postal_code, country, data_residency_region, support_tier,
         stripe_customer_id, metadata, version, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
             $18, $19, $20, $21, $22, $23)
             ON CONFLICT (tenant_id) DO NOTHING",
        &[
            &tenant.tenant_id,
            &tenant.name,
            &tenant.status,
            &tenant.legal_name,
            &tenant.contact_email,
            &tenant.contact_name,
            &tenant.billing_email,
            &tenant.phone,
            &tenant.industry,
            &tenant.company_size,
            &tenant.address_line1,
            &tenant.address_line2,
            &tenant.city,
            &tenant.state_province,
            &tenant.postal_code,
            &tenant.country,
            &tenant.data_residency_region,
            &tenant.support_tier,
            &tenant.stripe_customer_id,
            &Json(&tenant.metadata),
            &tenant.version,
            &tenant.created_at,
            &tenant.updated_at,
        ],
    )
    .await?;
    Ok(inserted == 1)
}

/// Writes a locked tenant.
pub async fn save(tx: &Transaction<'_>, tenant: &model::Tenant) -> Result<()> {
    execute(
        tx,
        "UPDATE tenants SET name = $2, status = $3, legal_name = $4, contact_email = $5,
         contact_name = $6, billing_email = $7, phone = $8, industry = $9, company_size = $10,
         address_line1 = $11, address_line2 = $12, city = $13, state_province = $14,
         postal_code = $15, country = $16, data_residency_region = $17, support_tier = $18,
         stripe_customer_id = $19, metadata = $20, version = $21, updated_at = $22
         WHERE tenant_id = $1",
        &[
            &tenant.tenant_id,
            &tenant.name,
            &tenant.status,
            &tenant.legal_name,
            &tenant.contact_email,
            &tenant.contact_name,
            &tenant.billing_email,
            &tenant.phone,
            &tenant.industry,
            &tenant.company_size,
            &tenant.address_line1,
            &tenant.address_line2,
            &tenant.city,
            &tenant.state_province,
            &tenant.postal_code,
            &tenant.country,
            &tenant.data_residency_region,
            &tenant.support_tier,
            &tenant.stripe_customer_id,
            &Json(&tenant.metadata),
            &tenant.version,
            &tenant.updated_at,
        ],
    )
    .await?;
    Ok(())
}

/// Makes this transaction the only one that decides whose the tenant's present customer and this
/// one are, before its row is locked: appliers of events hold the same locks, in the same order
/// (`events::store::claim_alone`).
pub async fn lock_customers(
    tx: &Transaction<'_>,
    id: &TenantId,
    customer: Option<&StripeCustomerId>,
) -> Result<()> {
    execute(
        tx,
        "SELECT pg_advisory_xact_lock(hashtextextended(customer, 0))
         FROM (SELECT stripe_customer_id FROM tenants WHERE tenant_id = $1 UNION SELECT $2::text
         ORDER BY 1) AS customers (customer)
         WHERE customer IS NOT NULL",
        &[&id, &customer],
    )
    .await?;
    Ok(())
}

/// Links the customer of a tenant that has none.
pub async fn link_customer(
    tx: &Transaction<'_>,
    id: &TenantId,
    customer: &StripeCustomerId,
    now: Timestamp,
) -> Result<()> {
    execute(
        tx,
        "UPDATE tenants SET stripe_customer_id = $2, version = version + 1, updated_at = $3
         WHERE tenant_id = $1 AND stripe_customer_id IS NULL",
        &[&id, &customer, &now],
    )
    .await?;
    Ok(())
}

/// Keeps a second customer of the tenant. False where it was kept before.
pub async fn insert_alias(
    tx: &Transaction<'_>,
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

/// Writes what a customer may change of a locked tenant: those columns only, which are all that
/// customers' role may write.
pub async fn save_profile(tx: &Transaction<'_>, tenant: &model::Tenant) -> Result<()> {
    let sql =
        "UPDATE tenants SET name = $2, legal_name = $3, contact_email = $4, contact_name = $5,
               billing_email = $6, phone = $7, industry = $8, company_size = $9,
               address_line1 = $10, address_line2 = $11, city = $12, state_province = $13,
               postal_code = $14, country = $15, data_residency_region = $16, version = $17,
               updated_at = $18
         WHERE tenant_id = $1";
    execute(
        tx,
        sql,
        &[
            &tenant.tenant_id,
            &tenant.name,
            &tenant.legal_name,
            &tenant.contact_email,
            &tenant.contact_name,
            &tenant.billing_email,
            &tenant.phone,
            &tenant.industry,
            &tenant.company_size,
            &tenant.address_line1,
            &tenant.address_line2,
            &tenant.city,
            &tenant.state_province,
            &tenant.postal_code,
            &tenant.country,
            &tenant.data_residency_region,
            &tenant.version,
            &tenant.updated_at,
        ],
    )
    .await?;
    Ok(())
}

/// Whether the customer is one of the tenant's further ones.
pub async fn is_alias(
    tx: &Transaction<'_>,
    id: &TenantId,
    customer: &StripeCustomerId,
) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM stripe_customer_aliases WHERE tenant_id = $1
               AND stripe_customer_id = $2)";
    Ok(query_one(tx, sql, &[&id, &customer]).await?.get(0))
}

/// Links the customer of this transaction's tenant, whose row is locked, where it has none. False
/// where it has one, or the customer is another's.
pub async fn link_own_customer(
    tx: &Transaction<'_>,
    id: &TenantId,
    customer: &StripeCustomerId,
    now: Timestamp,
) -> Result<bool> {
    if !query_one(tx, "SELECT link_stripe_customer($1)", &[&customer]).await?.get::<_, bool>(0) {
        return Ok(false);
    }
    execute(
        tx,
        "UPDATE tenants SET version = version + 1, updated_at = $2 WHERE tenant_id = $1",
        &[&id, &now],
    )
    .await?;
    Ok(true)
}
