//! The users of tenants. They are in Keycloak; what operators do with them is in the audit.
//!
//! Keycloak is called with no transaction open. So a request may crash after Keycloak's change and
//! before its audit row. A repetition of the request finds the change, and records it.

pub mod model;
mod store;

use jiff::Timestamp;
use serde_json::{Value, json};

use self::model::{NewUser, User};
use crate::base::caller::Person;
use crate::base::clock::Clock;
use crate::base::error::{Error, Result};
use crate::base::ids::{TenantId, UserId};
use crate::base::paging::{Offset, Page, Slice};
use crate::db::{Db, Transaction};
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::idempotency::model::Key;
use crate::domain::{audit, idempotency, outbox, tenants, usage};
use crate::outside::keycloak::{Account, AccountChange, Keycloak, user_exists};

/// A page of a tenant's users, by user name.
///
/// # Errors
/// `tenant_not_found`; `Upstream`.
pub async fn list(
    db: &Db,
    keycloak: &Keycloak,
    tenant: &TenantId,
    page: &Page<i64>,
) -> Result<Slice<User>> {
    tenants::operator::get(db, tenant).await?;
    // Keycloak pages by number only, and so does the cursor.
    let first = page.after.unwrap_or(page.offset);
    let first = Offset::new(first)
        .ok_or_else(|| Error::invalid("cursor", "is not a cursor of this list"))?
        .get();
    let accounts = keycloak.accounts(tenant, first, page.fetch()).await?;
    // Keycloak counts what it found, so the page is cut first.
    let Slice { items, next_cursor } = page.cut(accounts, |_| first + page.limit);
    let is_theirs = |account: &Account| account.tenant().as_ref() == Some(tenant);
    let items = items
        .into_iter()
        .filter(is_theirs)
        .map(|account| User::of(account, tenant.clone()))
        .collect();
    Ok(Slice { items, next_cursor })
}

/// Creates a user with the role `customer`, who can log in once a password is set
/// (`send_welcome_mail`).
///
/// If a crashed attempt has created the user of this address and tenant, wholly or in part, the
/// user is completed and counts as created now.
///
/// # Errors
/// `tenant_not_found`, `tenant_deleted`, `user_exists`; `Invalid` if Keycloak refuses a
/// field; `Upstream`; those of the idempotency key.
pub async fn create(
    db: &Db,
    keycloak: &Keycloak,
    by: &Person,
    key: Option<&Key>,
    new: NewUser,
    clock: &Clock,
) -> Result<User> {
    let now = clock.now();
    let tenant = new.tenant_id.clone();
    if let Some(user) = begin(db, key, &tenant, now).await? {
        return Ok(user);
    }
    let (id, ensured) = keycloak.create_customer(&new.into(), &tenant).await?;
    let user = User::of(keycloak.customer(&id, &tenant).await?, tenant);
    let users = usage::count_users(keycloak, &user.tenant_id, clock).await?;

    let tx = db.begin().await?;
    if let Some(user) = idempotency::earlier(&tx, key, now).await? {
        return Ok(user);
    }
    // Of two requests for one user the second one waits here, and sees the first one's row.
    tenants::store::lock(&tx, &user.tenant_id).await?;
    let recorded = store::is_created(&tx, &user).await?;
    let by_lost_try = user.created_at.is_some_and(|made| made > now - idempotency::KEPT);
    let event_type = match ensured {
        AccountChange::Completed if recorded => AuditEvent::UserUpdated,
        AccountChange::Created | AccountChange::Completed if !recorded => AuditEvent::UserCreated,
        AccountChange::Unchanged if !recorded && by_lost_try => AuditEvent::UserCreated,
        _ => return Err(user_exists()),
    };
    outbox::store::insert_organization(&tx, &user.tenant_id, now).await?;
    record(&tx, event_type, by, &user, None, now).await?;
    usage::record_users(&tx, &user.tenant_id, &users, now).await?;
    idempotency::keep(&tx, key, &user, now).await?;
    tx.commit().await?;
    Ok(user)
}

/// The answer that this key got before; else refuses a tenant that cannot have users.
async fn begin(
    db: &Db,
    key: Option<&Key>,
    tenant: &TenantId,
    now: Timestamp,
) -> Result<Option<User>> {
    let tx = db.begin().await?;
    let earlier = idempotency::earlier(&tx, key, now).await?;
    if earlier.is_none()
        && tenants::store::find(&tx, tenant)
            .await?
            .ok_or_else(tenants::model::not_found)?
            .is_deleted()
    {
        return Err(tenants::model::deleted(tenant));
    }
    Ok(earlier)
}

/// Enables or disables a user. If it is already so, and in the audit, nothing changes.
///
/// # Errors
/// `user_not_found`; `Upstream`.
pub async fn set_enabled(
    db: &Db,
    keycloak: &Keycloak,
    by: &Person,
    id: &UserId,
    enabled: bool,
    clock: &Clock,
) -> Result<User> {
    let now = clock.now();
    let mut user = find(db, keycloak, id).await?;
    let recorded = store::is_enabled(&db.connection().await?, &user).await?;
    if user.enabled != recorded {
        // Another request may have changed it since it was read.
        user = find(db, keycloak, id).await?;
    }
    if user.enabled != enabled {
        keycloak.set_enabled(&user.id, enabled).await?;
    } else if recorded == enabled {
        return Ok(user);
    }
    let users = usage::count_users(keycloak, &user.tenant_id, clock).await?;
    let tx = db.begin().await?;
    tenants::store::lock(&tx, &user.tenant_id).await?;
    // Unless another request for the same change has recorded it meanwhile.
    if recorded == enabled || store::is_enabled(&tx, &user).await? != enabled {
        let states = (json!({"enabled": !enabled}), json!({"enabled": enabled}));
        record(
            &tx,
            if enabled { AuditEvent::UserEnabled } else { AuditEvent::UserDisabled },
            by,
            &user,
            Some(states),
            now,
        )
        .await?;
        usage::record_users(&tx, &user.tenant_id, &users, now).await?;
        tx.commit().await?;
    }
    Ok(User { enabled, ..user })
}

/// Sends the mail that lets the user set a password.
///
/// # Errors
/// `user_not_found`, `user_disabled`; `Upstream`.
pub async fn send_welcome_mail(
    db: &Db,
    keycloak: &Keycloak,
    by: &Person,
    id: &UserId,
    now: Timestamp,
) -> Result<()> {
    let user = find(db, keycloak, id).await.map_err(Error::of_email)?;
    if !user.enabled {
        return Err(Error::conflict("user_disabled", "The user is disabled: enable it first"));
    }
    keycloak.send_welcome_mail(&user.id).await.map_err(Error::of_email)?;
    let tx = db.begin().await?;
    record(&tx, AuditEvent::WelcomeEmailSent, by, &user, None, now).await?;
    tx.commit().await?;
    Ok(())
}

/// A user of a tenant that we have. Any other account, such as platform staff, is not found.
async fn find(db: &Db, keycloak: &Keycloak, id: &UserId) -> Result<User> {
    let account = keycloak.account(id.as_str()).await?.ok_or_else(not_found)?;
    let tenant = account.tenant().ok_or_else(not_found)?;
    tenants::store::find(&db.connection().await?, &tenant).await?.ok_or_else(not_found)?;
    Ok(User::of(account, tenant))
}

fn not_found() -> Error {
    Error::not_found("user_not_found", "User not found")
}

async fn record(
    tx: &Transaction,
    event_type: AuditEvent,
    by: &Person,
    user: &User,
    states: Option<(Value, Value)>,
    now: Timestamp,
) -> Result<()> {
    let (previous_state, new_state) = states.unzip();
    let details = Some(json!({"user_id": user.id}));
    let entry = Entry {
        tenant: Some(&user.tenant_id),
        previous_state,
        new_state,
        details,
        ..Entry::new(event_type, Actor::Operator(by), now)
    };
    audit::store::insert(tx, &entry).await
}
