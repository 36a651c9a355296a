//! Who pays for a tenant: its customer at Stripe.

use axum::http::HeaderValue;
use jiff::Timestamp;
use serde_json::json;

use super::model::Tenant;
use super::session::begin;
use crate::base::caller::Customer;
use crate::base::ids::StripeCustomerId;
use crate::db::Db;
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::{audit, tenants};
use crate::outside::stripe::{NewCustomer, Stripe};
use crate::{Error, Result};

/// What selling needs: the database as customers' role, Stripe, and the origins to which its pages
/// may return.
pub struct Till<'a> {
    /// As `pulse_app`.
    pub db: &'a Db,
    /// By the customers' secret.
    pub stripe: &'a Stripe,
    /// The origins whose pages may call.
    pub origins: &'a [HeaderValue],
    /// Where Stripe leads back to where a request does not say.
    pub return_url: &'a str,
    /// The time of the request, UTC.
    pub now: Timestamp,
}

/// The tenant's Stripe customer, which is created if there is none yet.
pub(crate) async fn customer_of(
    till: &Till<'_>,
    caller: &Customer,
    tenant: &Tenant,
) -> Result<StripeCustomerId> {
    match tenant.stripe_customer_id.clone() {
        Some(linked) => Ok(linked),
        None => become_customer(till, caller, tenant).await,
    }
}

/// Creates the tenant's customer at Stripe, and links it. Two tabs at once, or a retry after a lost
/// answer, have the same key and get the same customer.
pub(crate) async fn become_customer(
    till: &Till<'_>,
    caller: &Customer,
    tenant: &Tenant,
) -> Result<StripeCustomerId> {
    let new = NewCustomer {
        tenant: &tenant.tenant_id,
        name: &tenant.profile.name,
        email: tenant.profile.billing_email.as_deref(),
    };
    // By version, or Stripe would give back for a day the customer that an operator has unlinked
    // since. A customer whose answer is lost before a change of the tenant stays unused.
    let key = format!("tenant:{}:customer:{}", tenant.tenant_id, tenant.version);
    let made = till.stripe.create_customer(&new, &key).await?;
    link(till.db, caller, made, till.now).await
}

pub(crate) async fn linked(db: &Db, caller: &Customer) -> Result<Option<StripeCustomerId>> {
    let tx = begin(db, &caller.tenant).await?;
    let tenant =
        tenants::store::find(&tx, &caller.tenant).await?.ok_or_else(tenants::model::not_found)?;
    tx.commit().await?;
    Ok(tenant.stripe_customer_id)
}

/// Links the customer, unless one is linked by now; returns the linked one.
pub(crate) async fn link(
    db: &Db,
    caller: &Customer,
    made: StripeCustomerId,
    now: Timestamp,
) -> Result<StripeCustomerId> {
    let tx = begin(db, &caller.tenant).await?;
    // In the order of events: the customer's lock before the tenant's row.
    tenants::store::lock_customers(&tx, &caller.tenant, Some(&made)).await?;
    let tenant =
        tenants::store::lock(&tx, &caller.tenant).await?.ok_or_else(tenants::model::not_found)?;
    if let Some(linked) = tenant.stripe_customer_id {
        return Ok(linked);
    }
    if !tenants::store::link_own_customer(&tx, &caller.tenant, &made, now).await? {
        return Err(Error::Internal(format!(
            "Stripe customer {made}, made for tenant {}, is another tenant's",
            caller.tenant
        )));
    }
    let entry = Entry {
        tenant: Some(&caller.tenant),
        previous_state: Some(json!({"stripe_customer_id": null})),
        new_state: Some(json!({"stripe_customer_id": made})),
        ..Entry::new(AuditEvent::TenantUpdated, Actor::Customer(&caller.person), now)
    };
    audit::store::insert(&tx, &entry).await?;
    tx.commit().await?;
    Ok(made)
}
