//! What billing asks of `subscriptions` and `stripe_customer_aliases`, and the one write of a
//! Stripe id that customers' role has.

use deadpool_postgres::Transaction;
use jiff::Timestamp;

use crate::Result;
use crate::base::ids::{StripeCustomerId, StripeSessionId, SubscriptionId, TenantId};
use crate::db::{execute, query_one, query_opt};
use crate::domain::subscriptions::model::{LIVE, Status};

/// Links the customer of this transaction's tenant, whose row is locked, where it has none. False
/// where it has one, or the customer is another's.
pub async fn link_customer(
    tx: &Transaction<'_>,
    id: &TenantId,
    customer: &StripeCustomerId,
    now: Timestamp,
) -> Result<bool> {
    if !query_one(tx, "SELECT link_stripe_customer($1)", &[&customer.as_str()])
        .await?
        .get::<_, bool>(0)
    {
        return Ok(false);
    }
    execute(
        tx,
        "UPDATE tenants SET version = version + 1, updated_at = $2 WHERE tenant_id = $1",
        &[&id.as_str(), &now],
    )
    .await?;
    Ok(true)
}

/// Whether the customer is one of the tenant's further ones.
pub async fn is_alias(
    tx: &Transaction<'_>,
    id: &TenantId,
    customer: &StripeCustomerId,
) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM stripe_customer_aliases WHERE tenant_id = $1
               AND stripe_customer_id = $2)";
    Ok(query_one(tx, sql, &[&id.as_str(), &customer.as_str()]).await?.get(0))
}

/// A live MAIN of the tenant that is paid at Stripe.
pub async fn paid_main(tx: &Transaction<'_>, id: &TenantId) -> Result<Option<SubscriptionId>> {
    let live = LIVE.map(Status::as_str);
    let sql = "SELECT subscription_id FROM subscriptions
               WHERE tenant_id = $1 AND subscription_type = 'MAIN' AND status = ANY($2)
               AND stripe_subscription_id IS NOT NULL
               ORDER BY subscription_id LIMIT 1";
    let row = query_opt(tx, sql, &[&id.as_str(), &live.as_slice()]).await?;
    row.map(|row| SubscriptionId::parse(row.get(0))).transpose()
}

/// The tenant's subscription that this checkout made.
pub async fn made_by(
    tx: &Transaction<'_>,
    id: &TenantId,
    session: &StripeSessionId,
) -> Result<Option<SubscriptionId>> {
    let sql = "SELECT subscription_id FROM subscriptions WHERE tenant_id = $1
               AND stripe_checkout_session_id = $2";
    let row = query_opt(tx, sql, &[&id.as_str(), &session.as_str()]).await?;
    row.map(|row| SubscriptionId::parse(row.get(0))).transpose()
}
