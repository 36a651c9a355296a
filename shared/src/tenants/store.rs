//! `tenants` and `stripe_customer_aliases`.

use deadpool_postgres::Transaction;
use jiff::Timestamp;

use super::model::Profile;
use crate::Result;
use crate::ids::{StripeCustomerId, TenantId};

/// A tenant, as far as a checkout must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Whether it was deleted; its id is never given to another.
    pub deleted: bool,
    /// The linked customer.
    pub stripe_customer_id: Option<StripeCustomerId>,
}

/// Locks the tenant of this id.
pub async fn lock(tx: &Transaction<'_>, id: &TenantId) -> Result<Option<Tenant>> {
    let row = tx.query_opt("SELECT status, stripe_customer_id FROM tenants WHERE tenant_id = $1 FOR UPDATE", &[&id.as_str()]).await?;
    let Some(row) = row else { return Ok(None) };
    let customer: Option<&str> = row.get("stripe_customer_id");
    Ok(Some(Tenant { deleted: row.get::<_, &str>("status") == "DELETED", stripe_customer_id: customer.map(StripeCustomerId::parse).transpose()? }))
}

/// The tenant whose customer this is, linked or as an alias.
pub async fn find_by_customer(tx: &Transaction<'_>, customer: &StripeCustomerId) -> Result<Option<TenantId>> {
    let row = tx
        .query_opt(
            "SELECT tenant_id FROM tenants WHERE stripe_customer_id = $1
             UNION ALL SELECT tenant_id FROM stripe_customer_aliases WHERE stripe_customer_id = $1 LIMIT 1",
            &[&customer.as_str()],
        )
        .await?;
    row.map(|row| TenantId::parse(row.get(0))).transpose()
}

/// Inserts a tenant under this id. False where the id is taken, also by one whose transaction has just committed.
pub async fn insert(tx: &Transaction<'_>, id: &TenantId, profile: &Profile, customer: Option<&StripeCustomerId>, now: Timestamp) -> Result<bool> {
    let inserted = tx
        .execute(
            "INSERT INTO tenants (tenant_id, name, legal_name, contact_email, contact_name, billing_email, phone, industry, company_size,
                                  address_line1, address_line2, city, state_province, postal_code, country, data_residency_region,
                                  stripe_customer_id, created_at, updated_at)
             VALUES ($1, coalesce($2, $1), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18)
             ON CONFLICT (tenant_id) DO NOTHING",
            &[
                &id.as_str(),
                &profile.name,
                &profile.legal_name,
                &profile.contact_email,
                &profile.contact_name,
                &profile.billing_email,
                &profile.phone,
                &profile.industry,
                &profile.company_size,
                &profile.address_line1,
                &profile.address_line2,
                &profile.city,
                &profile.state_province,
                &profile.postal_code,
                &profile.country,
                &profile.data_residency_region,
                &customer.map(StripeCustomerId::as_str),
                &now,
            ],
        )
        .await?;
    Ok(inserted == 1)
}

/// Links the customer of a tenant that has none.
pub async fn link_customer(tx: &Transaction<'_>, id: &TenantId, customer: &StripeCustomerId, now: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE tenants SET stripe_customer_id = $2, version = version + 1, updated_at = $3 WHERE tenant_id = $1 AND stripe_customer_id IS NULL",
        &[&id.as_str(), &customer.as_str(), &now],
    )
    .await?;
    Ok(())
}

/// Keeps a second customer of the tenant. False where it was kept before.
pub async fn insert_alias(tx: &Transaction<'_>, id: &TenantId, customer: &StripeCustomerId, now: Timestamp) -> Result<bool> {
    let inserted = tx
        .execute(
            "INSERT INTO stripe_customer_aliases (stripe_customer_id, tenant_id, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            &[&customer.as_str(), &id.as_str(), &now],
        )
        .await?;
    Ok(inserted == 1)
}
