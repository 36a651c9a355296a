//! What is on sale, what a company has, and the ways to pay for it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::fields::{NamedLimit, ReturnUrl};
use crate::base::ids::{Currency, PlanId, StripePriceId, StripeSessionId, SubscriptionId};
use crate::domain::allocations::model::AllocationView;
use crate::domain::families::subscription::{Status, SubscriptionType};
use crate::domain::plans::model::{Plan, PlanTier};
use crate::domain::prices::model::{Interval, OfferedPrice, Price, shown};
use crate::outside::stripe::{CheckoutSession, Subscription};
use crate::{Error, Result, request, words};

/// What a page needs to sell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BillingConfig {
    /// Stripe's key for pages; not secret.
    pub publishable_key: String,
    /// The default currency: that of prices without one of their own.
    pub currency: Currency,
    /// The plans on sale, in the order of the catalogue.
    pub plans: Vec<PlanOffer>,
}

/// A plan on sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields of docs/catalogue.md")]
pub struct PlanOffer {
    pub plan_id: PlanId,
    pub name: String,
    pub description: String,
    pub device_limit: i32,
    /// How many devices may have which tier, in the tiers' order.
    pub tiers: Vec<TierOffer>,
    /// Other limits, by name: a number, `null` for any number; of a feature whether it is there.
    pub limits: BTreeMap<String, NamedLimit>,
    /// The default currency: that of the two fields after it.
    pub currency: Currency,
    pub monthly_price_cents: Option<i64>,
    pub annual_price_cents: Option<i64>,
    /// What it costs in every currency.
    pub prices: Vec<OfferedPrice>,
    /// Whether it can be bought by the month.
    pub sold_monthly: bool,
    /// Whether it can be bought by the year.
    pub sold_annually: bool,
}

/// Slots of a tier that a plan comes with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TierOffer {
    /// The tier.
    pub tier_id: i32,
    /// Its name for people.
    pub display_name: String,
    /// How many slots.
    pub slot_limit: i32,
}

impl From<PlanTier> for TierOffer {
    fn from(PlanTier { tier_id, display_name, slot_limit, .. }: PlanTier) -> Self {
        Self { tier_id, display_name, slot_limit }
    }
}

impl PlanOffer {
    /// The plan with the slots that it comes with.
    #[must_use]
    pub fn new(plan: Plan, tiers: Vec<TierOffer>) -> Self {
        let is_sold = |interval| {
            let mut prices = plan.prices.iter().filter(|price| price.interval == interval);
            prices.any(|price| price.stripe_price_id.is_some())
        };
        Self {
            sold_monthly: is_sold(Interval::Month),
            sold_annually: is_sold(Interval::Year),
            plan_id: plan.plan_id,
            name: plan.name,
            description: plan.description,
            device_limit: plan.device_limit,
            tiers,
            limits: plan.limits,
            currency: plan.currency,
            monthly_price_cents: plan.monthly_price_cents,
            annual_price_cents: plan.annual_price_cents,
            prices: plan.prices.into_iter().map(Into::into).collect(),
        }
    }
}

/// The state of the caller's own company.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BillingStatus {
    /// Whether the company pays through Stripe.
    pub linked: bool,
    /// The address that invoices go to.
    pub billing_email: Option<String>,
    /// What support it has.
    pub support_tier: String,
    /// Those that have not ended, a MAIN before its ADDONs.
    pub subscriptions: Vec<BillingSubscription>,
}

/// A subscription of the own company.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of docs/subscriptions.md")]
pub struct BillingSubscription {
    pub subscription_id: SubscriptionId,
    pub subscription_type: SubscriptionType,
    pub status: Status,
    /// The worse of its own and its MAIN's.
    pub effective_status: Status,
    pub plan_id: Option<PlanId>,
    /// How many of its plan it pays for.
    pub quantity: i32,
    pub term_start: Timestamp,
    pub term_end: Timestamp,
    pub grace_end: Option<Timestamp>,
    /// Until when a payment that is under way, such as a bank debit, counts as one that comes.
    pub payment_pending_until: Option<Timestamp>,
    pub parent_subscription_id: Option<SubscriptionId>,
    /// What it is paid in at Stripe.
    pub currency: Option<Currency>,
    /// Whether only Stripe's state changes it.
    pub stripe_managed: bool,
    /// Whether the billing portal offers another plan for it. While Stripe renews slots with it,
    /// only an operator can change the plan.
    pub portal_plan_change: bool,
    pub device_limit: i32,
    pub active_device_count: i32,
    pub allocations: Vec<AllocationView>,
}

request! {
    /// A plan to buy.
    pub struct NewCheckout {
        plan_id: PlanId,
        interval: Interval,
        /// What to pay in. Where it is absent: what the company pays in at Stripe already, else the
        /// default currency, else the one in which the plan is sold.
        currency: Option<Currency> = None,
        /// Where Stripe sends the payer after. On one of the allowed origins;
        /// `{CHECKOUT_SESSION_ID}` in it becomes the session's id.
        success_url: ReturnUrl,
        /// And where without a payment.
        cancel_url: ReturnUrl,
        /// Whether another MAIN is wanted in addition to one that is paid already.
        additional: bool = false,
    }

    /// A visit of the billing portal.
    pub struct NewPortal {
        /// Where the portal leads back to. On one of the allowed origins.
        return_url: ReturnUrl,
    }
}

/// A checkout that was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Checkout {
    /// Stripe's page to pay on.
    pub url: String,
    /// For reading the checkout's status.
    pub session_id: StripeSessionId,
}

/// The billing portal, opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Portal {
    /// Stripe's page; it serves for a few minutes.
    pub url: String,
}

words! {
    /// How far a checkout has come.
    pub enum CheckoutState {
        /// Not paid yet, or Stripe's event is under way.
        Pending = "pending",
        /// Its subscription is there.
        Provisioned = "provisioned",
        /// It expired, its payment failed, or it could not be applied: an operator looks.
        Failed = "failed",
    }
}

/// The status of a checkout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CheckoutStatus {
    /// How far it has come.
    pub status: CheckoutState,
    /// The subscription that it made.
    pub subscription_id: Option<SubscriptionId>,
}

/// The present Stripe price of what is wanted. `paid`: the currency in which the company pays at
/// Stripe already, which takes no other one of the same customer.
///
/// # Errors
/// `Invalid`, naming the interval or the currency, or the plan where it is not sold at all.
pub fn price<'p>(
    plan: &'p Plan,
    interval: Interval,
    wanted: Option<&Currency>,
    paid: Option<&Currency>,
) -> Result<&'p StripePriceId> {
    let sold = |price: &'p Price| Some((price, price.stripe_price_id.as_ref()?));
    let all: Vec<_> = plan.prices.iter().filter_map(sold).collect();
    if all.is_empty() {
        return Err(Error::invalid("plan_id", "is not sold online: contact sales"));
    }
    let fit: Vec<_> = all.iter().filter(|(price, _)| price.interval == interval).collect();
    let in_currency = |currency: &Currency| {
        fit.iter().find(|(price, _)| price.currency == *currency).map(|(_, id)| *id)
    };
    let names: Vec<_> = fit.iter().map(|(price, _)| price.currency.as_str()).collect();
    match (wanted.or(paid), fit.as_slice()) {
        (_, []) => {
            Err(Error::invalid("interval", "is not sold for this plan: choose the other one"))
        }
        (Some(currency), _) => in_currency(currency).ok_or_else(|| {
            let currency = shown(currency);
            let by = interval.as_str();
            let message = if wanted.is_some() {
                format!("is not sold by the {by} in {currency}: choose {}", names.join(" or "))
            } else {
                format!("is {currency}, which the company pays in: the plan is not sold in it")
            };
            Error::invalid("currency", message)
        }),
        (None, [(_, only)]) => Ok(only),
        (None, _) => in_currency(&plan.currency).ok_or_else(|| {
            Error::invalid("currency", format!("is required: choose {}", names.join(" or ")))
        }),
    }
}

/// Whether a session that made no subscription of ours never will: it expired, or its payment
/// failed. For a payment that takes days, only the subscription shows that.
#[must_use]
pub fn has_failed(session: &CheckoutSession, subscription: Option<&Subscription>) -> bool {
    match session.status.as_deref() {
        Some("expired") => true,
        Some("complete") if session.payment_status == "unpaid" => {
            subscription.is_some_and(|subscription| {
                ["past_due", "unpaid", "canceled", "incomplete_expired"]
                    .contains(&subscription.status.as_str())
            })
        }
        _ => false,
    }
}

/// Refuses a second MAIN where one goes on at Stripe, with what to do about that one.
pub(crate) fn already_subscribed(id: &SubscriptionId, stripe_status: &str) -> Error {
    let what = match stripe_status {
        "past_due" | "unpaid" => {
            "has an unpaid invoice, and Stripe goes on charging for it. Pay it in the billing \
             portal (POST /api/v1/customer/billing/portal)"
        }
        "paused" => "is paused at Stripe. Resume it instead of buying another one",
        "incomplete" => "waits for its first payment. Complete it in the billing portal",
        _ => "is paid already. Change it in the billing portal",
    };
    let detail = format!("{id} {what}, or set `additional` to buy another one.");
    Error::conflict("already_subscribed", detail)
}
