//! A user of a tenant, as operators see it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::fields::{Email, Name, Param};
use crate::base::ids::TenantId;
use crate::base::paging::{Cursor, Limit, Offset};
use crate::outside::keycloak::{Account, NewAccount};
use crate::request;

/// A user of a tenant, as Keycloak has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Keycloak's id, which is the `sub` of the user's tokens.
    pub id: String,
    /// The user name: the mail address, or a made-up name if Keycloak refuses the address as one.
    /// The user logs in by the mail address.
    pub username: String,
    /// The mail address.
    pub email: Option<String>,
    /// First name, if known.
    pub first_name: Option<String>,
    /// Last name, if known.
    pub last_name: Option<String>,
    /// Whether the user may log in.
    pub enabled: bool,
    /// The user's tenant.
    pub tenant_id: TenantId,
    /// By Keycloak's clock.
    pub created_at: Option<Timestamp>,
}

impl User {
    /// The account, which belongs to this tenant.
    #[must_use]
    pub fn of(account: Account, tenant_id: TenantId) -> Self {
        Self {
            id: account.id,
            username: account.username,
            email: account.email,
            first_name: account.first_name,
            last_name: account.last_name,
            enabled: account.enabled,
            tenant_id,
            created_at: account
                .created_timestamp
                .and_then(|at| Timestamp::from_millisecond(at).ok()),
        }
    }
}

request! {
    /// A user to add.
    pub struct NewUser {
        tenant_id: TenantId,
        /// The mail address, by which the user logs in. Only one user of all tenants may have it.
        email: Email,
        first_name: Option<Name> = None,
        last_name: Option<Name> = None,
    }

    /// Changes of a user.
    pub struct UserUpdate {
        /// Whether the user may log in.
        enabled: bool,
    }

    /// Which users to list.
    pub struct UserFilter {
        tenant_id: TenantId,
        limit: Option<Param<Limit>> = None,
        offset: Option<Param<Offset>> = None,
        cursor: Option<Cursor> = None,
    }
}

impl From<NewUser> for NewAccount {
    fn from(new: NewUser) -> Self {
        Self {
            email: new.email.into_string(),
            first_name: new.first_name.map(Name::into_string),
            last_name: new.last_name.map(Name::into_string),
        }
    }
}
