//! What billing asks of `subscriptions` and `stripe_customer_aliases`, and the one write of a
//! Stripe id that customers' role has.

use deadpool_postgres::Transaction;

use crate::Result;
use crate::base::ids::{StripeSessionId, SubscriptionId, TenantId};
use crate::db::query_opt;
use crate::domain::families::subscription::LIVE;

/// A live MAIN of the tenant that is paid at Stripe.
pub(crate) async fn paid_main(
    tx: &Transaction<'_>,
    id: &TenantId,
) -> Result<Option<SubscriptionId>> {
    let sql = "SELECT subscription_id FROM subscriptions
               WHERE tenant_id = $1 AND subscription_type = 'MAIN' AND status = ANY($2)
               AND stripe_subscription_id IS NOT NULL
               ORDER BY subscription_id LIMIT 1";
    let row = query_opt(tx, sql, &[&id, &LIVE.as_slice()]).await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

/// The tenant's subscription that this checkout made.
pub(crate) async fn made_by(
    tx: &Transaction<'_>,
    id: &TenantId,
    session: &StripeSessionId,
) -> Result<Option<SubscriptionId>> {
    let sql = "SELECT subscription_id FROM subscriptions WHERE tenant_id = $1
               AND stripe_checkout_session_id = $2";
    let row = query_opt(tx, sql, &[&id, &session]).await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}
