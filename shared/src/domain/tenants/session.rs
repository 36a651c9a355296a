//! A customer's transaction, which sees the rows of one tenant.

use deadpool_postgres::{Object, Transaction};

use super::store;
use crate::base::error::Refusal;
use crate::base::ids::TenantId;
use crate::{Error, Result};

/// Begins a transaction in which customers' role sees the rows of this tenant and no other. The
/// setting ends with the transaction.
///
/// # Errors
/// `Refused` as forbidden (`tenant_deleted`) if the tenant is deleted or unknown; `Database`.
pub async fn begin<'a>(connection: &'a mut Object, tenant: &TenantId) -> Result<Transaction<'a>> {
    let tx = connection.transaction().await?;
    if store::enter(&tx, tenant).await? {
        return Ok(tx);
    }
    Err(Error::refusal(
        Refusal::Forbidden,
        "tenant_deleted",
        "The access token's tenant does not exist, or no longer does.",
    ))
}
