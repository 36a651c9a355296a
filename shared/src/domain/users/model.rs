//! A user of a tenant, as operators see it; mail addresses.

use deserr::{
    DeserializeError as _, Deserr, ErrorKind, IntoValue, Value, ValuePointerRef, take_cf_content,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use crate::base::fields;
use crate::base::fields::{Described, Faults, Name, Param};
use crate::base::ids::TenantId;
use crate::base::paging::{Cursor, Limit, Offset};
use crate::domain::outbox::model::KeycloakUser;
use crate::outside::keycloak::Account;
use crate::{Error, Result, request};

/// A user of a tenant, as Keycloak has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Keycloak's id of it, and the `sub` of its tokens.
    pub id: String,
    /// What it logs in with: its mail address.
    pub username: String,
    /// Where its mail goes.
    pub email: Option<String>,
    /// First name, if known.
    pub first_name: Option<String>,
    /// Last name, if known.
    pub last_name: Option<String>,
    /// Whether it may log in.
    pub enabled: bool,
    /// Whose.
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
        /// Where the user gets mail, and what it logs in with. One user has it, of whatever tenant.
        email: Email,
        first_name: Option<Name> = None,
        last_name: Option<Name> = None,
    }

    /// What of a user to change.
    pub struct UserUpdate {
        /// Whether it may log in.
        enabled: bool,
    }

    /// Which users.
    pub struct UserFilter {
        tenant_id: TenantId,
        limit: Option<Param<Limit>> = None,
        offset: Option<Param<Offset>> = None,
        cursor: Option<Cursor> = None,
    }
}

impl From<NewUser> for KeycloakUser {
    fn from(new: NewUser) -> Self {
        Self {
            email: new.email.into_string(),
            first_name: new.first_name.map(Name::into_string),
            last_name: new.last_name.map(Name::into_string),
        }
    }
}

/// A user's id: a UUID, and nothing else that a path would read otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct UserId(String);

impl UserId {
    /// Takes the text where it is well formed.
    ///
    /// # Errors
    /// `Malformed` (`malformed_id`) where it is not.
    pub fn parse(text: &str) -> Result<Self> {
        let at = |(index, b): (usize, u8)| {
            if matches!(index, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() }
        };
        let well_formed = text.len() == 36 && text.bytes().enumerate().all(at);
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::malformed("malformed_id", "a user's id is a UUID"))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UserId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

/// A mail address in lower case, as Keycloak keeps it. Whether somebody reads it, only a mail can
/// tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    const MAX: usize = 254;
    /// As `parse` has it.
    const PATTERN: &str = r"^[^@\s\x00-\x1f\x7f-\x9f]+@[^@\s\x00-\x1f\x7f-\x9f]+$";

    /// Takes the text where it has a part before its one @ and one after it, no blank and no
    /// control character.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (local, domain) = text.split_once('@')?;
        let part = |part: &str| {
            !part.is_empty()
                && !part.chars().any(|c| c == '@' || c.is_whitespace() || c.is_control())
        };
        (text.chars().count() <= Self::MAX && part(local) && part(domain))
            .then(|| Self(text.to_lowercase()))
    }

    /// The text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Deserr<Faults> for Email {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> std::result::Result<Self, Faults> {
        let malformed = || ErrorKind::Unexpected {
            msg: format!("must be a mail address of at most {} characters", Self::MAX),
        };
        let fault = |error: ErrorKind<'_, V>| take_cf_content(Faults::error(None, error, location));
        match value {
            Value::String(text) => Self::parse(&text).ok_or_else(|| fault(malformed())),
            actual => Err(fault(ErrorKind::IncorrectValueKind {
                actual,
                accepted: &[deserr::ValueKind::String],
            })),
        }
    }
}

impl Described for Email {
    fn schema() -> RefOr<Schema> {
        fields::text().pattern(Some(Self::PATTERN)).max_length(Some(Self::MAX)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_at_and_something_on_both_sides() {
        for good in ["jane@acme.example", "JANE@ACME.EXAMPLE", "o'brien+1@a", "用户@例子.example"]
        {
            assert_eq!(Email::parse(good).map(Email::into_string), Some(good.to_lowercase()));
        }
        let long = format!("{}@acme.example", "x".repeat(242));
        for bad in [
            "",
            "@",
            "jane",
            "@acme",
            "jane@",
            "a@b@c",
            "a b@c",
            " a@b",
            "a@b\n",
            "a@b\u{0}",
            "a\u{a0}@b",
            "a\u{85}@b",
            &long,
        ] {
            assert_eq!(Email::parse(bad), None, "{bad:?}");
        }
        assert!(Email::parse(&long[1..]).is_some());
    }

    #[test]
    fn a_users_id_is_a_uuid() {
        assert!(UserId::parse("00000000-0000-4000-8000-00000000000f").is_ok());
        let bad = [
            "",
            "me",
            "00000000-0000-4000-8000-00000000000",
            "00000000x0000-4000-8000-000000000000",
            "../../../../users/00000000-0000-4000",
        ];
        for bad in bad
            .into_iter()
            .chain(["g0000000-0000-4000-8000-000000000000", "00000000-0000-4000-8000-0000000000é"])
        {
            assert!(UserId::parse(bad).is_err(), "{bad}");
        }
    }
}
