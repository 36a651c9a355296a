//! What `subscription_audit` has about a user. Users are in Keycloak and have no table.

use super::model::User;
use crate::Result;
use crate::db::{Executor, Transaction, query_one, query_opt};

/// Whether the audit has the creation of the user.
pub(super) async fn is_created(tx: &Transaction, user: &User) -> Result<bool> {
    let row = query_one(
        tx,
        "SELECT EXISTS (SELECT FROM subscription_audit WHERE tenant_id = $1
         AND event_type = 'USER_CREATED' AND details->>'user_id' = $2)",
        &[&user.tenant_id, &user.id],
    )
    .await?;
    Ok(row.get(0))
}

/// Whether the user may log in according to the latest row; true if there is none.
pub(super) async fn is_enabled(db: &impl Executor, user: &User) -> Result<bool> {
    let row = query_opt(
        db,
        "SELECT event_type = 'USER_ENABLED' FROM subscription_audit
             WHERE tenant_id = $1 AND event_type IN ('USER_ENABLED', 'USER_DISABLED')
             AND details->>'user_id' = $2
             ORDER BY event_timestamp DESC, id DESC LIMIT 1",
        &[&user.tenant_id, &user.id],
    )
    .await?;
    Ok(row.is_none_or(|row| row.get(0)))
}
