//! What billing asks of `subscriptions` and `stripe_customer_aliases`, and the one write of a
//! Stripe id that customers' role has.

use crate::Result;
use crate::base::ids::{StripeSessionId, SubscriptionId, TenantId};
use crate::db::{Transaction, query_one, query_opt};

/// Whether the checkout was completed and could not be applied.
pub(crate) async fn has_failed(tx: &Transaction, session: &StripeSessionId) -> Result<bool> {
    Ok(query_one(tx, "SELECT checkout_failed($1)", &[&session]).await?.get(0))
}

/// The tenant's subscription that this checkout made.
pub(crate) async fn made_by(
    tx: &Transaction,
    id: &TenantId,
    session: &StripeSessionId,
) -> Result<Option<SubscriptionId>> {
    let sql = "SELECT subscription_id FROM subscriptions WHERE tenant_id = $1
               AND stripe_checkout_session_id = $2";
    let row = query_opt(tx, sql, &[&id, &session]).await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}
