//! A customer's transaction, which sees the rows of one tenant.

use deadpool_postgres::{Object, Transaction};

use crate::base::error::Refusal;
use crate::base::ids::TenantId;
use crate::{Error, Result};

/// Begins a transaction that sees, as customers' role, this tenant's rows and no other's. The
/// setting ends with the transaction.
///
/// # Errors
/// `Refused` as forbidden (`tenant_deleted`) where the tenant is gone, or never was; `Database`.
pub async fn begin<'a>(connection: &'a mut Object, tenant: &TenantId) -> Result<Transaction<'a>> {
    let tx = connection.transaction().await?;
    let set = tx.prepare_cached("SELECT set_config('app.tenant_id', $1, true)");
    let find = tx.prepare_cached("SELECT FROM tenants WHERE tenant_id = $1 AND status = 'ACTIVE'");
    let (set, find) = futures::future::try_join(set, find).await?;
    let tenant = tenant.as_str();
    // In one round trip. The first is sent first, and the second, which sees nothing without it,
    // runs after it.
    let (_, found) =
        futures::future::try_join(tx.execute(&set, &[&tenant]), tx.query_opt(&find, &[&tenant]))
            .await?;
    if found.is_some() {
        return Ok(tx);
    }
    Err(Error::refusal(
        Refusal::Forbidden,
        "tenant_deleted",
        "The access token's tenant does not exist, or no longer does.",
    ))
}
