//! A customer's transaction, which sees the rows of one tenant.

use std::sync::Arc;

use super::store;
use crate::base::error::Refusal;
use crate::base::ids::TenantId;
use crate::db::{Db, Line, Transaction};
use crate::{Error, Result};

/// Begins a transaction in which customers' role sees the rows of this tenant and no other. The
/// setting ends with the transaction. If the tenant is deleted or unknown, its first statements
/// and their caller are refused as forbidden (`tenant_deleted`): what they wrote does not stay.
///
/// # Errors
/// Where no connection is to be had.
pub async fn begin(db: &Db, tenant: &TenantId) -> Result<Transaction> {
    let tenant = tenant.clone();
    db.begin_with(move |line| enter(line, tenant)).await
}

/// The same for who is told that their tenant is deleted: what they read of it is its row.
///
/// # Errors
/// Where no connection is to be had.
pub(super) async fn begin_any(db: &Db, tenant: &TenantId) -> Result<Transaction> {
    let tenant = tenant.clone();
    db.begin_with(async move |line| store::enter_any(&line, &tenant).await).await
}

async fn enter(line: Arc<Line>, tenant: TenantId) -> Result<()> {
    if store::enter(&line, &tenant).await? {
        return Ok(());
    }
    Err(Error::refusal(
        Refusal::Forbidden,
        "tenant_deleted",
        "The access token's tenant does not exist, or no longer does.",
    ))
}
