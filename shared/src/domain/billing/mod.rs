//! Self-service of customers: the offer, the company's state, checkouts, and Stripe's portal.
//!
//! Stripe is called between transactions, never inside one. A checkout first reads what it decides
//! by and commits, then calls Stripe under an idempotency key, and then writes the result in
//! another transaction. Each part can be repeated.

pub mod model;
pub(crate) mod store;

use futures::try_join;
use jiff::Timestamp;

use self::model::{
    BillingConfig, BillingStatus, BillingSubscription, Checkout, CheckoutState, CheckoutStatus,
    NewCheckout, NewPortal, PlanOffer, Portal,
};
use crate::base::caller::Customer;
use crate::base::fields;
use crate::base::ids::{StripeCustomerId, StripePriceId, StripeSessionId};
use crate::base::paging::Page;
use crate::db::Db;
use crate::domain::families::subscription::{Status, SubscriptionType};
use crate::domain::idempotency::model::Key;
use crate::domain::idempotency::random_key;
use crate::domain::plans::model::Plan;
use crate::domain::tenants::model::Tenant;
use crate::domain::tenants::payer::{Till, customer_of, linked};
use crate::domain::tenants::session::begin;
use crate::domain::{addons, allocations, families, idempotency, plans, prices, tenants};
use crate::outside::stripe::{KEY_SPENT, NewSession};
use crate::{Error, Result};

/// What is on sale, and the key that pages sell it with.
///
/// # Errors
/// `Database`.
pub async fn config(db: &Db, publishable_key: &str, caller: &Customer) -> Result<BillingConfig> {
    let tx = begin(db, &caller.tenant).await?;
    let page = Page::whole();
    let (plans, tiers, currency, ()) = try_join!(
        plans::store::list(&tx, &page),
        plans::store::all_tier_defaults(&tx),
        prices::store::default_currency(&tx),
        tx.close()
    )?;
    let offer = |plan: Plan| {
        let own = tiers.iter().filter(|tier| tier.plan_id == plan.plan_id);
        let own = own.cloned().map(Into::into).collect();
        PlanOffer::new(plan, own)
    };
    let plans = plans.into_iter().filter(|plan| plan.is_active).map(offer).collect();
    Ok(BillingConfig { publishable_key: publishable_key.to_owned(), currency, plans })
}

/// The state of the caller's own company: its subscriptions, and whether it pays through Stripe.
///
/// # Errors
/// `Database`.
pub async fn status(db: &Db, caller: &Customer) -> Result<BillingStatus> {
    let tx = begin(db, &caller.tenant).await?;
    let (tenant, families) = try_join!(
        tenants::store::find(&tx, &caller.tenant),
        families::locks::read_all(&tx, &caller.tenant)
    )?;
    let tenant = tenant.ok_or_else(tenants::model::not_found)?;
    let mut subscriptions = Vec::new();
    for family in families {
        let root = &family.root;
        let at_portal =
            root.subscription_type == SubscriptionType::Main && root.is_stripe_managed();
        let one_product = at_portal
            && !family.of_stripe_items().is_some_and(|addon| addon.status.is_live())
            && !addons::store::renews_slots(&tx, &root.subscription_id).await?;
        let counted = allocations::store::count_devices(&tx, &root.subscription_id).await?;
        for member in family.members().filter(|member| member.status != Status::Expired) {
            let rows = allocations::store::rows(&tx, &member.subscription_id).await?;
            let id = &member.subscription_id;
            subscriptions.push(BillingSubscription {
                effective_status: family.effective_status(member),
                currency: member.stripe.as_ref().and_then(|link| link.currency.clone()),
                stripe_managed: member.is_stripe_managed(),
                portal_plan_change: one_product && member.subscription_id == root.subscription_id,
                allocations: allocations::views(&family, id, rows, &counted),
                subscription_id: member.subscription_id.clone(),
                subscription_type: member.subscription_type,
                status: member.status,
                plan_id: member.plan_id.clone(),
                quantity: member.quantity,
                term_start: member.term_start,
                term_end: member.term_end,
                grace_end: member.grace_end,
                payment_pending_until: member.stripe.as_ref().and_then(|link| link.pending_until),
                parent_subscription_id: member.parent_subscription_id.clone(),
                device_limit: member.device_limit,
                active_device_count: member.active_device_count,
            });
        }
    }
    tx.close().await?;
    Ok(BillingStatus {
        linked: tenant.stripe_customer_id.is_some(),
        billing_email: tenant.profile.billing_email,
        support_tier: tenant.support_tier,
        subscriptions,
    })
}

/// Opens a checkout of a plan. A company that Stripe does not know yet becomes a customer there
/// first.
///
/// # Errors
/// `Invalid` for an address elsewhere, or what is not sold; `plan_not_found`, `already_subscribed`;
/// Stripe's refusals, `Upstream`; those of the key.
pub async fn checkout(
    till: &Till<'_>,
    caller: &Customer,
    key: Option<&Key>,
    wanted: NewCheckout,
) -> Result<Checkout> {
    fields::check_urls(
        till.origins,
        &[("success_url", &wanted.success_url), ("cancel_url", &wanted.cancel_url)],
    )?;
    let Till { db, stripe: client, now, .. } = *till;
    let (tenant, price) = match prepare(db, caller, key, &wanted, now).await? {
        Prepared::Answered(first) => return Ok(first),
        Prepared::ToDo(tenant, price) => (tenant, price),
    };
    let customer = customer_of(till, caller, &tenant).await?;
    let new = NewSession {
        tenant: &caller.tenant,
        customer: &customer,
        plan: &wanted.plan_id,
        price: &price,
        additional: wanted.additional,
        success_url: wanted.success_url.as_str(),
        cancel_url: wanted.cancel_url.as_str(),
    };
    let opened = client.create_checkout_session(&new, &session_key(key)?).await;
    let opened = opened.map_err(|error| match error.code() {
        KEY_SPENT => idempotency::used_for_another(),
        _ => error,
    })?;
    keep(db, caller, key, Checkout { url: opened.url, session_id: opened.id }, now).await
}

/// What a checkout begins with.
enum Prepared {
    /// The key's first request was answered.
    Answered(Checkout),
    /// By this price.
    ToDo(Box<Tenant>, StripePriceId),
}

async fn prepare(
    db: &Db,
    caller: &Customer,
    key: Option<&Key>,
    wanted: &NewCheckout,
    now: Timestamp,
) -> Result<Prepared> {
    let tx = begin(db, &caller.tenant).await?;
    if let Some(first) = idempotency::earlier(&tx, key, now).await? {
        return Ok(Prepared::Answered(first));
    }
    let plan = plans::store::find(&tx, &wanted.plan_id)
        .await?
        .filter(|plan| plan.is_active)
        .ok_or_else(plans::model::not_found)?;
    let mains = families::rows::mains_at_stripe(&tx, &caller.tenant).await?;
    let paid = mains.iter().filter(|_| wanted.additional).find_map(|main| main.currency.as_ref());
    let price = model::price(&plan, wanted.interval, wanted.currency.as_ref(), paid)?.clone();
    if let Some(main) = mains.first().filter(|_| !wanted.additional) {
        return Err(model::already_subscribed(&main.id, &main.stripe_status));
    }
    let tenant =
        tenants::store::find(&tx, &caller.tenant).await?.ok_or_else(tenants::model::not_found)?;
    tx.commit().await?;
    Ok(Prepared::ToDo(Box::new(tenant), price))
}

async fn keep(
    db: &Db,
    caller: &Customer,
    key: Option<&Key>,
    opened: Checkout,
    now: Timestamp,
) -> Result<Checkout> {
    if key.is_none() {
        return Ok(opened);
    }
    let tx = begin(db, &caller.tenant).await?;
    // A twin may have been faster: by the same key at Stripe, it has the same session.
    if let Some(first) = idempotency::earlier(&tx, key, now).await? {
        return Ok(first);
    }
    idempotency::keep(&tx, key, &opened, now).await?;
    tx.commit().await?;
    Ok(opened)
}

/// The status of a checkout: the subscription here if there is one; else whether its event failed
/// here; else Stripe's state.
///
/// # Errors
/// `session_not_found`, also for another tenant's; `Upstream`.
pub async fn checkout_status(
    till: &Till<'_>,
    caller: &Customer,
    id: &StripeSessionId,
) -> Result<CheckoutStatus> {
    let Till { db, stripe: client, .. } = *till;
    let (made, failed) = {
        let tx = begin(db, &caller.tenant).await?;
        let made = store::made_by(&tx, &caller.tenant, id).await?;
        let failed = made.is_none() && store::has_failed(&tx, id).await?;
        tx.commit().await?;
        (made, failed)
    };
    if made.is_some() {
        return Ok(CheckoutStatus { status: CheckoutState::Provisioned, subscription_id: made });
    }
    let not_found = || Error::not_found("session_not_found", "Checkout session not found");
    let session = client.find_checkout_session(id).await?.ok_or_else(not_found)?;
    let named =
        session.metadata.get("tenant_id").is_some_and(|named| named == caller.tenant.as_str());
    if !named && !is_own(db, caller, session.customer()?).await? {
        return Err(not_found());
    }
    let subscription = match session.subscription()? {
        Some(id) if !failed && session.payment_status == "unpaid" => {
            Some(client.subscription(&id).await?)
        }
        _ => None,
    };
    let failed = failed || model::has_failed(&session, subscription.as_ref());
    Ok(CheckoutStatus {
        status: if failed { CheckoutState::Failed } else { CheckoutState::Pending },
        subscription_id: None,
    })
}

/// Whether the customer is the tenant's, linked or a further one.
async fn is_own(db: &Db, caller: &Customer, customer: Option<StripeCustomerId>) -> Result<bool> {
    let Some(customer) = customer else { return Ok(false) };
    let tx = begin(db, &caller.tenant).await?;
    let tenant =
        tenants::store::find(&tx, &caller.tenant).await?.ok_or_else(tenants::model::not_found)?;
    let own = tenant.stripe_customer_id.as_ref() == Some(&customer)
        || tenants::store::is_alias(&tx, &caller.tenant, &customer).await?;
    tx.commit().await?;
    Ok(own)
}

/// Opens Stripe's portal, where payment methods, invoices and subscriptions are managed.
///
/// # Errors
/// `Invalid` for an address elsewhere; `no_billing_account`; Stripe's refusals, `Upstream`.
pub async fn portal(till: &Till<'_>, caller: &Customer, wanted: &NewPortal) -> Result<Portal> {
    fields::check_urls(till.origins, &[("return_url", &wanted.return_url)])?;
    let customer = linked(till.db, caller).await?;
    let customer = customer.ok_or_else(|| {
        Error::conflict(
            "no_billing_account",
            "The company has no billing account yet. It gets one with its first checkout.",
        )
    })?;
    let url = till
        .stripe
        .create_portal_session(&customer, wanted.return_url.as_str(), &random_key()?)
        .await?;
    Ok(Portal { url })
}

/// Stripe's key for a session: of the caller's, so that a repetition after any failure is the same
/// session.
fn session_key(key: Option<&Key>) -> Result<String> {
    key.map_or_else(random_key, |key| Ok(format!("checkout:{}", key.outside())))
}
