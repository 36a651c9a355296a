//! Callers: a person, for a tenant or for the platform, or another backend. `http::extract` makes
//! them from access tokens.

use std::net::IpAddr;

use super::error::Refusal;
use super::ids::TenantId;
use crate::{Error, Result};

/// A person who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The `sub` of their token.
    pub id: String,
    /// Where from, as API Gateway saw it; never what a client's header says.
    pub ip: Option<IpAddr>,
}

/// A person who acts for the tenant of their token.
#[derive(Debug, Clone)]
pub struct Customer {
    /// The person.
    pub person: Person,
    /// The tenant of their token.
    pub tenant: TenantId,
}

/// Who may ask what a tenant is entitled to: its own customer, or another backend, which names the
/// tenant.
#[derive(Debug, Clone)]
pub enum Consumer {
    /// A customer of this tenant.
    Customer(TenantId),
    /// A backend with the role `service`.
    Service,
}

impl Consumer {
    /// The tenant that the request is about.
    ///
    /// # Errors
    /// `Invalid` where a service names no tenant; forbidden where a customer names another one.
    pub fn tenant(&self, named: Option<TenantId>) -> Result<TenantId> {
        match (self, named) {
            (Self::Service, Some(tenant)) => Ok(tenant),
            (Self::Service, None) => {
                Err(Error::invalid("tenant_id", "is required: a service asks for a tenant"))
            }
            (Self::Customer(own), Some(other)) if *own != other => Err(Error::refusal(
                Refusal::Forbidden,
                "another_tenant",
                "A customer asks for their own tenant only.",
            )),
            (Self::Customer(own), _) => Ok(own.clone()),
        }
    }
}
