//! Who pays for a tenant: its customer at Stripe.

use aws_lc_rs::digest;
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
use crate::outside::stripe::{KEY_SPENT, NewCustomer, Stripe};
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
    let key = format!("tenant:{}:customer", tenant.tenant_id);
    let made = match till.stripe.create_customer(&new, &key).await {
        // The profile has changed since an attempt whose answer was lost, so Stripe refuses the key
        // for a day. The customer of that attempt stays unused.
        Err(spent) if spent.code() == KEY_SPENT => {
            if let Some(linked) = linked(till.db, caller).await? {
                return Ok(linked);
            }
            let profile = hash(&[new.name, new.email.unwrap_or_default()]);
            till.stripe.create_customer(&new, &format!("{key}:{profile}")).await?
        }
        made => made?,
    };
    link(till.db, caller, made, till.now).await
}

pub(crate) async fn linked(db: &Db, caller: &Customer) -> Result<Option<StripeCustomerId>> {
    let mut db = db.connection().await?;
    let tx = begin(&mut db, &caller.tenant).await?;
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
    let mut db = db.connection().await?;
    let tx = begin(&mut db, &caller.tenant).await?;
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

/// The SHA-256 of the parts as lines: none of the parts can have a line break.
pub(crate) fn hash(parts: &[&str]) -> String {
    hex::encode(digest::digest(&digest::SHA256, parts.join("\n").as_bytes()))
}
