//! `subscriptions`.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::Value;

use super::model::{LIVE, Status};
use crate::Result;
use crate::ids::{PlanId, StripePriceId, StripeSessionId, StripeSubscriptionId, SubscriptionId, TenantId};

/// A MAIN subscription as a paid checkout makes it.
#[derive(Debug, Clone)]
pub struct NewMain<'a> {
    /// Whose.
    pub tenant: &'a TenantId,
    /// With what access.
    pub status: Status,
    /// When grace ends; set exactly where the status is GRACE.
    pub grace_end: Option<Timestamp>,
    /// None: it did not resolve.
    pub plan: Option<&'a PlanId>,
    /// Devices that it allows.
    pub device_limit: i32,
    /// `[start, end)`, UTC.
    pub term: (Timestamp, Timestamp),
    /// The item that decided the plan.
    pub price: Option<&'a StripePriceId>,
    /// At Stripe.
    pub stripe_subscription: &'a StripeSubscriptionId,
    /// The checkout that paid.
    pub session: &'a StripeSessionId,
}

/// Inserts it with the next id, and returns that with the row as JSON (for the audit).
pub async fn insert_main(tx: &Transaction<'_>, new: &NewMain<'_>, now: Timestamp) -> Result<(SubscriptionId, Value)> {
    let row = tx
        .query_one(
            "INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status, grace_end, plan_id, device_limit, term_start, term_end,
                                        stripe_price_id, stripe_subscription_id, stripe_checkout_session_id, stripe_sync,
                                        description, created_by, created_at, updated_at)
             VALUES (generate_subscription_id($11), $1, 'MAIN', $2, $3, $4, $5, $6, $7, $8, $9, $10, 1,
                     'Bought at Stripe Checkout', 'stripe', $11, $11)
             RETURNING subscription_id, to_jsonb(subscriptions) AS state",
            &[
                &new.tenant.as_str(),
                &new.status.as_str(),
                &new.grace_end,
                &new.plan.map(PlanId::as_str),
                &new.device_limit,
                &new.term.0,
                &new.term.1,
                &new.price.map(StripePriceId::as_str),
                &new.stripe_subscription.as_str(),
                &new.session.as_str(),
                &now,
            ],
        )
        .await?;
    Ok((SubscriptionId::parse(row.get("subscription_id"))?, row.get("state")))
}

/// The subscription that this checkout or this Stripe subscription already made, with its tenant.
pub async fn find_made_by(tx: &Transaction<'_>, session: &StripeSessionId, stripe: &StripeSubscriptionId) -> Result<Option<(TenantId, SubscriptionId)>> {
    let row = tx
        .query_opt(
            "SELECT tenant_id, subscription_id FROM subscriptions WHERE stripe_checkout_session_id = $1 OR stripe_subscription_id = $2 LIMIT 1",
            &[&session.as_str(), &stripe.as_str()],
        )
        .await?;
    row.map(|row| Ok((TenantId::parse(row.get("tenant_id"))?, SubscriptionId::parse(row.get("subscription_id"))?))).transpose()
}

/// A live MAIN of the same plan that the tenant has since `since`: probably bought twice.
pub async fn find_recent_twin(tx: &Transaction<'_>, tenant: &TenantId, plan: &PlanId, since: Timestamp) -> Result<Option<SubscriptionId>> {
    let live = LIVE.map(Status::as_str);
    let row = tx
        .query_opt(
            "SELECT subscription_id FROM subscriptions
             WHERE tenant_id = $1 AND plan_id = $2 AND subscription_type = 'MAIN' AND status = ANY($3) AND created_at >= $4
             ORDER BY created_at DESC LIMIT 1",
            &[&tenant.as_str(), &plan.as_str(), &live.as_slice(), &since],
        )
        .await?;
    row.map(|row| SubscriptionId::parse(row.get(0))).transpose()
}
