//! A customer's own company: the part of the tenant's profile that is theirs to change.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::model::{Line, Tenant, TenantStatus, not_found};
use super::session::begin;
use super::store;
use crate::base::caller::Customer;
use crate::base::fields::{Email, Name};
use crate::base::ids::TenantId;
use crate::base::version::{IfMatch, Versioned};
use crate::db::Db;
use crate::domain::audit;
use crate::domain::audit::model::{Actor, Entry};
use crate::{Error, Result, update};

/// The own company's profile. Stripe's ids, the support tier and the status are to read only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of docs/data.md")]
pub struct Organization {
    pub tenant_id: TenantId,
    pub name: String,
    pub status: TenantStatus,
    pub legal_name: Option<String>,
    pub contact_email: Option<String>,
    pub contact_name: Option<String>,
    pub billing_email: Option<String>,
    pub phone: Option<String>,
    pub industry: Option<String>,
    pub company_size: Option<String>,
    pub address_line1: Option<String>,
    pub address_line2: Option<String>,
    pub city: Option<String>,
    pub state_province: Option<String>,
    pub postal_code: Option<String>,
    pub country: Option<String>,
    pub data_residency_region: Option<String>,
    pub support_tier: String,
    /// Whether payments come by Stripe.
    pub billing_linked: bool,
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Versioned for Organization {
    fn version(&self) -> i64 {
        self.version
    }
}

impl From<Tenant> for Organization {
    fn from(tenant: Tenant) -> Self {
        Self {
            tenant_id: tenant.tenant_id,
            name: tenant.name,
            status: tenant.status,
            legal_name: tenant.legal_name,
            contact_email: tenant.contact_email,
            contact_name: tenant.contact_name,
            billing_email: tenant.billing_email,
            phone: tenant.phone,
            industry: tenant.industry,
            company_size: tenant.company_size,
            address_line1: tenant.address_line1,
            address_line2: tenant.address_line2,
            city: tenant.city,
            state_province: tenant.state_province,
            postal_code: tenant.postal_code,
            country: tenant.country,
            data_residency_region: tenant.data_residency_region,
            support_tier: tenant.support_tier,
            billing_linked: tenant.stripe_customer_id.is_some(),
            version: tenant.version,
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
        }
    }
}

update! {
    /// What of the own company's profile to change. What is absent stays; `null` clears what may be
    /// empty.
    pub struct OrganizationUpdate {
        name: Name,
        legal_name: Option<Line>,
        contact_email: Option<Email>,
        contact_name: Option<Line>,
        billing_email: Option<Email>,
        phone: Option<Line>,
        industry: Option<Line>,
        company_size: Option<Line>,
        address_line1: Option<Line>,
        address_line2: Option<Line>,
        city: Option<Line>,
        state_province: Option<Line>,
        postal_code: Option<Line>,
        country: Option<Line>,
        data_residency_region: Option<Line>,
    }
}

impl OrganizationUpdate {
    fn applied_to(self, mut tenant: Tenant) -> Tenant {
        let line = |line: Option<Line>| line.map(Line::into_string);
        let email = |email: Option<Email>| email.map(Email::into_string);
        self.name.apply(&mut tenant.name, Name::into_string);
        self.legal_name.apply(&mut tenant.legal_name, line);
        self.contact_email.apply(&mut tenant.contact_email, email);
        self.contact_name.apply(&mut tenant.contact_name, line);
        self.billing_email.apply(&mut tenant.billing_email, email);
        self.phone.apply(&mut tenant.phone, line);
        self.industry.apply(&mut tenant.industry, line);
        self.company_size.apply(&mut tenant.company_size, line);
        self.address_line1.apply(&mut tenant.address_line1, line);
        self.address_line2.apply(&mut tenant.address_line2, line);
        self.city.apply(&mut tenant.city, line);
        self.state_province.apply(&mut tenant.state_province, line);
        self.postal_code.apply(&mut tenant.postal_code, line);
        self.country.apply(&mut tenant.country, line);
        self.data_residency_region.apply(&mut tenant.data_residency_region, line);
        tenant
    }
}

/// The own company.
///
/// # Errors
/// `Database`.
pub async fn get(db: &Db, caller: &Customer) -> Result<Organization> {
    let mut db = db.connection().await?;
    let tx = begin(&mut db, &caller.tenant).await?;
    let tenant = store::find(&tx, &caller.tenant).await?.ok_or_else(not_found)?;
    tx.commit().await?;
    Ok(tenant.into())
}

/// Changes the own company's profile. What is so already changes nothing.
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
    let mut db = db.connection().await?;
    let tx = begin(&mut db, &caller.tenant).await?;
    let before = store::lock_whole(&tx, &caller.tenant).await?.ok_or_else(not_found)?;
    if_match.check(before.version)?;
    if update.is_empty() {
        return Err(Error::malformed("no_fields", "No fields to update"));
    }
    let mut after = update.applied_to(before.clone());
    if after != before {
        (after.version, after.updated_at) = (before.version + 1, now);
        store::save_profile(&tx, &after).await?;
        record(&tx, caller, before, &after, now).await?;
    }
    tx.commit().await?;
    Ok(after.into())
}

async fn record(
    tx: &Transaction<'_>,
    caller: &Customer,
    before: Tenant,
    after: &Tenant,
    now: Timestamp,
) -> Result<()> {
    let entry = Entry {
        tenant: Some(&caller.tenant),
        previous_state: Some(json!(Organization::from(before))),
        new_state: Some(json!(Organization::from(after.clone()))),
        ..Entry::new("ORGANIZATION_UPDATED", Actor::Customer(&caller.person), now)
    };
    audit::store::insert(tx, &entry).await
}
