//! Slots that customers add to a MAIN, until its term ends (docs/billing.md, "Add-ons").
//!
//! An order holds what is bought and at which price. It is committed before Stripe is called, and
//! a paid order becomes an ADDON (`events::addon`). Stripe renews the slots with their parent:
//! `quantity` keeps what it charges at what the family has.

pub mod model;
pub mod proration;
pub(crate) mod quantity;
pub(crate) mod store;

use jiff::Timestamp;
use serde_json::json;

use self::model::{Addition, AddonCheckout, NewAddonCheckout, Order, OrderStatus, Quote};
use crate::base::caller::Customer;
use crate::base::fields;
use crate::base::fields::ReturnUrl;
use crate::base::ids::AddonOrderId;
use crate::db::{Db, Transaction};
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::idempotency::model::Key;
use crate::domain::tenants::model::Tenant;
use crate::domain::tenants::payer::Till;
use crate::domain::tenants::session::begin;
use crate::domain::{audit, families, idempotency, tenants, tiers};
use crate::outside::stripe::{KEY_SPENT, NewPayment, SESSION_TOO_SHORT};
use crate::{Error, Result};

/// What slots would cost now.
///
/// # Errors
/// As `checkout`, but those of addresses, of the key and of Stripe.
pub async fn price(
    db: &Db,
    caller: &Customer,
    wanted: &NewAddonCheckout,
    now: Timestamp,
) -> Result<AddonCheckout> {
    model::each_tier_once(&wanted.additions.0)?;
    let tx = begin(db, &caller.tenant).await?;
    let quote = quoted(&tx, wanted, now).await?;
    Ok(AddonCheckout { url: None, session_id: None, quote })
}

/// Orders slots, and opens the checkout that is charged exactly what the order says.
///
/// # Errors
/// `Invalid` for an address elsewhere, or a tier named twice; `subscription_not_found`,
/// `parent_not_main`, `parent_not_live`, `subscription_held`, `tier_not_found`, `renewal_near`,
/// `order_expired`; `Unfit`: `tier_not_sold`, `amount_too_small`, `amount_too_large`; Stripe's
/// refusals, `Upstream`; those of the key.
pub async fn checkout(
    till: &Till<'_>,
    caller: &Customer,
    key: Option<&Key>,
    wanted: NewAddonCheckout,
) -> Result<AddonCheckout> {
    let urls = [("success_url", &wanted.success_url), ("cancel_url", &wanted.cancel_url)];
    let given: Vec<_> =
        urls.iter().filter_map(|(name, url)| Some((*name, url.as_ref()?))).collect();
    fields::check_urls(till.origins, &given)?;
    let [success_url, cancel_url] =
        urls.map(|(_, url)| url.as_ref().map_or(till.return_url, ReturnUrl::as_str));
    model::each_tier_once(&wanted.additions.0)?;
    let Till { db, now, .. } = *till;
    let (tenant, order) = match order(db, caller, key, &wanted, now).await? {
        OrderStart::Answered(first) => return Ok(first),
        OrderStart::Open(tenant, order) => (tenant, order),
    };
    let customer = tenants::payer::customer_of(till, caller, &tenant).await?;
    let lines: Vec<_> = order
        .quote
        .lines
        .iter()
        .map(|line| (model::line_name(line, &order.quote), line.amount_cents))
        .collect();
    let new = NewPayment {
        tenant: &caller.tenant,
        customer: &customer,
        parent: &order.quote.parent_subscription_id,
        order: &order.order_id,
        lines: &lines,
        currency: &order.quote.currency,
        expires_at: order.expires_at,
        success_url,
        cancel_url,
    };
    // The order's own key: a repeated request has the same order, and so the same session.
    let opened =
        till.stripe.create_payment_session(&new, &format!("addon:{}", order.order_id)).await;
    let opened = opened.map_err(|error| match error.code() {
        KEY_SPENT => idempotency::used_for_another(),
        SESSION_TOO_SHORT => Error::conflict(
            "order_expired",
            "This order was not completed in time. Order again, with another Idempotency-Key.",
        ),
        _ => error,
    })?;
    let answer = AddonCheckout {
        url: Some(opened.url),
        session_id: Some(opened.id),
        quote: order.quote.clone(),
    };
    keep(db, caller, key, &order, answer, now).await
}

/// What a checkout begins with.
enum OrderStart {
    /// The key's first request was answered.
    Answered(AddonCheckout),
    /// What is to be paid.
    Open(Box<Tenant>, Box<Order>),
}

async fn order(
    db: &Db,
    caller: &Customer,
    key: Option<&Key>,
    wanted: &NewAddonCheckout,
    now: Timestamp,
) -> Result<OrderStart> {
    let tx = begin(db, &caller.tenant).await?;
    if let Some(first) = idempotency::earlier(&tx, key, now).await? {
        return Ok(OrderStart::Answered(first));
    }
    let tenant = Box::new(
        tenants::store::find(&tx, &caller.tenant).await?.ok_or_else(tenants::model::not_found)?,
    );
    let request_key = key.map(Key::outside);
    if let Some(request_key) = &request_key
        && let Some(order) = store::of_request(&tx, &caller.tenant, request_key, now).await?
    {
        // An earlier attempt got no answer: its order holds, at its price.
        if !is_for(&order, wanted) {
            return Err(idempotency::used_for_another());
        }
        return Ok(OrderStart::Open(tenant, Box::new(order)));
    }
    let order = Order {
        order_id: AddonOrderId::parse(&format!("ord_{}", idempotency::random_key()?))?,
        tenant_id: caller.tenant.clone(),
        quote: quoted(&tx, wanted, now).await?,
        stripe_checkout_session_id: None,
        status: OrderStatus::Open,
        subscription_id: None,
        expires_at: now + model::CHECKOUT_TIME,
        created_at: now,
    };
    store::insert(&tx, &order, request_key.as_deref()).await?;
    let entry = Entry {
        tenant: Some(&caller.tenant),
        subscription: Some(&order.quote.parent_subscription_id),
        new_state: Some(json!(order)),
        ..Entry::new(AuditEvent::AddonOrdered, Actor::Customer(&caller.person), now)
    };
    audit::store::insert(&tx, &entry).await?;
    tx.commit().await?;
    Ok(OrderStart::Open(tenant, Box::new(order)))
}

fn is_for(order: &Order, wanted: &NewAddonCheckout) -> bool {
    let ordered = order
        .quote
        .lines
        .iter()
        .map(|line| (i64::from(line.tier_id), i64::from(line.additional_slots)));
    order.quote.parent_subscription_id == wanted.parent_subscription_id
        && ordered.eq(wanted
            .additions
            .0
            .iter()
            .map(|wanted| (wanted.tier_id.get(), wanted.additional_slots.get())))
}

/// The price of what is wanted, now.
async fn quoted(tx: &Transaction, wanted: &NewAddonCheckout, now: Timestamp) -> Result<Quote> {
    let id = &wanted.parent_subscription_id;
    // Row-level security: another tenant's is not there.
    let family = families::locks::find(tx, id).await?.ok_or_else(families::not_found)?;
    let parent = family.member(id).ok_or_else(families::not_found)?;
    model::check_parent(parent)?;
    let mut sold = Vec::new();
    for Addition { tier_id, .. } in &wanted.additions.0 {
        sold.push(tiers::active(tx, tier_id.get_i32()).await?);
    }
    let (interval, currency) = store::paid_in(tx, id).await?;
    let paid_by = model::paid_by(parent, interval);
    model::quote(parent, (paid_by, &currency), &wanted.additions.0, &sold, now)
}

async fn keep(
    db: &Db,
    caller: &Customer,
    key: Option<&Key>,
    order: &Order,
    answer: AddonCheckout,
    now: Timestamp,
) -> Result<AddonCheckout> {
    let tx = begin(db, &caller.tenant).await?;
    // A twin may have been faster: by the same order, it has the same session.
    if let Some(first) = idempotency::earlier(&tx, key, now).await? {
        return Ok(first);
    }
    if let Some(session) = &answer.session_id {
        store::set_session(&tx, &order.order_id, session, now).await?;
    }
    idempotency::keep(&tx, key, &answer, now).await?;
    tx.commit().await?;
    Ok(answer)
}
