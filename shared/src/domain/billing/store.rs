//! What billing asks of `subscriptions` and `stripe_customer_aliases`, and the one write of a
//! Stripe id that customers' role has.

use deadpool_postgres::Transaction;

use crate::Result;
use crate::base::ids::{StripeSessionId, SubscriptionId, TenantId};
use crate::db::query_opt;

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
