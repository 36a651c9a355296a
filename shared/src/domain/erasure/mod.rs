//! The erasure of a deleted tenant: what is personal goes, and the books stay (docs/privacy.md,
//! "Erasure").

pub mod model;
mod store;

use jiff::Timestamp;
use serde_json::json;

use self::model::{ErasedRows, Erasure, ErasureRequest};
use crate::base::caller::Person;
use crate::base::ids::TenantId;
use crate::db::{Db, Transaction};
use crate::domain::audit;
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::tenants;
use crate::domain::tenants::model::Tenant;
use crate::outside::keycloak::Keycloak;
use crate::{Error, Result};

/// Users that are read of Keycloak at once.
const PAGE: i64 = 100;

/// Deletes the users of a deleted tenant and its organization, and takes what is personal out of
/// its rows. An event that comes afterwards brings its payload along, so it may be repeated; where
/// nothing is found any more, it changes nothing.
///
/// Keycloak is called with no transaction open: an erasure that fails half-way is repeated.
///
/// # Errors
/// `tenant_not_found`; `tenant_not_deleted`; `tenant_unfinished` while something of it still needs
/// what would be erased; `Upstream`.
pub async fn erase(
    db: &Db,
    keycloak: &Keycloak,
    by: &Person,
    id: &TenantId,
    request: ErasureRequest,
    now: Timestamp,
) -> Result<Erasure> {
    lock_finished(&db.begin().await?, id).await?;
    let users = delete_users(keycloak, id).await?;
    keycloak.delete_organization(id).await?;

    let tx = db.begin().await?;
    let tenant = lock_finished(&tx, id).await?;
    let rows = store::erase(&tx, id).await?;
    let erasure = |erased_at| Erasure { tenant_id: id.clone(), erased_at, users, rows };
    if let Some(erased_at) = tenant.erased_at
        && users == 0
        && rows == ErasedRows::default()
    {
        return Ok(erasure(erased_at));
    }
    let note = request.note.into_string();
    let entry = Entry {
        tenant: Some(id),
        details: Some(json!({"note": note, "users": users, "rows": rows})),
        ..Entry::new(AuditEvent::TenantErased, Actor::Operator(by), now)
    };
    tenants::store::save(&tx, &tenant.erased(now)).await?;
    audit::store::insert(&tx, &entry).await?;
    tx.commit().await?;
    Ok(erasure(now))
}

/// Locks a tenant that is deleted, and that nothing needs any more.
async fn lock_finished(tx: &Transaction, id: &TenantId) -> Result<Tenant> {
    let tenant = tenants::store::lock(tx, id).await?.ok_or_else(tenants::model::not_found)?;
    if !tenant.is_deleted() {
        return Err(Error::conflict(
            "tenant_not_deleted",
            format!("Tenant '{id}' is not deleted: delete it first"),
        ));
    }
    let unfinished: Vec<String> = store::unfinished(tx, id)
        .await?
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{what} ({count})"))
        .collect();
    if unfinished.is_empty() {
        return Ok(tenant);
    }
    Err(Error::conflict(
        "tenant_unfinished",
        format!("Tenant '{id}' still has {}", unfinished.join(", ")),
    ))
}

/// Deletes the users whose tenant it is, and no account that Keycloak's search finds beside them.
async fn delete_users(keycloak: &Keycloak, id: &TenantId) -> Result<u64> {
    let (mut deleted, mut first) = (0, 0);
    loop {
        let accounts = keycloak.accounts(id, first, PAGE).await?;
        if accounts.is_empty() {
            return Ok(deleted);
        }
        for account in accounts {
            match account.id_of(id) {
                Some(user) => deleted += u64::from(keycloak.delete_account(&user).await?),
                // It stays, and so does its place in the list.
                None => first += 1,
            }
        }
    }
}
