//! Keycloak's organizations (Keycloak's "Managing organizations"). Each tenant is one; its alias is
//! the tenant's id, which Keycloak keeps unique and never changes. An organization gives no access:
//! a token's tenant is its user's attribute.

use std::collections::HashSet;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Account, Keycloak, NAME_LENGTH, accept, cut, made_id, unreachable};
use crate::base::error::Service;
use crate::base::fault;
use crate::base::fault::Point;
use crate::base::ids::TenantId;
use crate::{Error, Result};

/// How many members or users are read at once.
const PAGE: u16 = 100;

/// A tenant's organization as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// Keycloak's id.
    pub id: String,
    /// How many members it has.
    pub members: usize,
}

/// An organization, whole: Keycloak clears what an update omits, such as domains.
#[derive(Serialize, Deserialize)]
struct Representation {
    id: String,
    name: String,
    alias: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct Member {
    id: String,
}

impl Keycloak {
    /// Makes the tenant's organization, or gives it the tenant's present name, and makes the
    /// tenant's users its members. Nobody is taken out of it.
    ///
    /// # Errors
    /// `Upstream`; permanent where another organization has the name.
    pub async fn set_organization(&self, tenant: &TenantId, name: &str) -> Result<Organization> {
        let name = organization_name(name, tenant);
        let id = match self.find_organization(tenant).await? {
            Some(found) => self.rename_organization(found, &name).await?,
            None => self.create_organization(tenant, &name).await?,
        };
        let members = self.add_members(&id, tenant).await?;
        Ok(Organization { id, members })
    }

    async fn find_organization(&self, tenant: &TenantId) -> Result<Option<Representation>> {
        let query = by_alias(tenant);
        let answer = self.organizations(Method::GET, "", |call| call.query(&query)).await?;
        of_alias(answer, tenant).await
    }

    /// Deletes the tenant's organization, if there is one; its members stay. A realm without
    /// organizations, or in which we may not manage any, has none of ours.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn delete_organization(&self, tenant: &TenantId) -> Result<()> {
        let query = by_alias(tenant);
        let answer =
            self.try_call(Method::GET, "/organizations", |call| call.query(&query)).await?;
        if [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN].contains(&answer.status()) {
            return Ok(());
        }
        let answer = accept("GET /organizations", answer).await?;
        if let Some(found) = of_alias(answer, tenant).await? {
            let path = format!("/{}", found.id);
            let answer = self.organizations(Method::DELETE, &path, |call| call).await?;
            accept("DELETE /organizations/{id}", answer).await?;
        }
        Ok(())
    }

    async fn create_organization(&self, tenant: &TenantId, name: &str) -> Result<String> {
        let body = json!({"name": name, "alias": tenant, "enabled": true});
        let answer = self.organizations(Method::POST, "", |call| call.json(&body)).await?;
        if answer.status() == StatusCode::CONFLICT
            && let Some(found) = self.find_organization(tenant).await?
        {
            // Made by another between the two calls.
            return self.rename_organization(found, name).await;
        }
        let answer = accept("POST /organizations", answer).await?;
        fault::point(Point::OutboxOrganizationMade);
        made_id(&answer, "organization")
    }

    async fn rename_organization(&self, mut found: Representation, name: &str) -> Result<String> {
        if found.name != name {
            name.clone_into(&mut found.name);
            let path = format!("/{}", found.id);
            let answer = self.organizations(Method::PUT, &path, |call| call.json(&found)).await?;
            accept("PUT /organizations/{id}", answer).await?;
        }
        Ok(found.id)
    }

    /// Adds the tenant's users that are no members yet, and returns how many members there are.
    async fn add_members(&self, id: &str, tenant: &TenantId) -> Result<usize> {
        let path = format!("/{id}/members");
        let mut members = HashSet::new();
        for first in (0..).step_by(PAGE.into()) {
            let query = [("first", first), ("max", i64::from(PAGE))];
            let answer = self.organizations(Method::GET, &path, |call| call.query(&query)).await?;
            let page: Vec<Member> = answer.json().await.map_err(unreachable)?;
            let is_last = page.len() < usize::from(PAGE);
            members.extend(page.into_iter().map(|member| member.id));
            if is_last {
                break;
            }
        }
        for first in (0..).step_by(PAGE.into()) {
            let page = self.accounts(tenant, first, PAGE.into()).await?;
            let is_last = page.len() < usize::from(PAGE);
            for user in page.into_iter().filter_map(|account: Account| account.id_of(tenant)) {
                if members.contains(&user) {
                    continue;
                }
                // A conflict: it was made one by another since the list was read.
                self.organizations(Method::POST, &path, |call| call.json(&user)).await?;
                fault::point(Point::OutboxMemberAdded);
                members.insert(user);
            }
            if is_last {
                break;
            }
        }
        Ok(members.len())
    }

    /// Calls the API of organizations. A conflict is the caller's to judge. What is not found may
    /// be there later: a realm gets organizations when an operator switches them on.
    async fn organizations(
        &self,
        method: Method,
        path: &str,
        build: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response> {
        let what = format!("{method} /organizations{path}");
        let answer = self.try_call(method, &format!("/organizations{path}"), build).await?;
        let way_out = match answer.status() {
            StatusCode::CONFLICT => return Ok(answer),
            StatusCode::NOT_FOUND => {
                "switch organizations on in the realm, or set KEYCLOAK_ORGANIZATIONS=false"
            }
            StatusCode::FORBIDDEN => {
                "give the service account the role manage-organizations of realm-management"
            }
            _ => return accept(&what, answer).await,
        };
        let status = answer.status();
        Err(Error::unavailable(Service::Keycloak, format!("{what} answered {status}: {way_out}")))
    }
}

/// The query that finds a tenant's organization.
fn by_alias(tenant: &TenantId) -> [(&'static str, String); 2] {
    [("q", format!("alias:{tenant}")), ("briefRepresentation", "false".to_owned())]
}

/// The tenant's organization among those that were found.
async fn of_alias(answer: Response, tenant: &TenantId) -> Result<Option<Representation>> {
    let found: Vec<Representation> = answer.json().await.map_err(unreachable)?;
    Ok(found.into_iter().find(|found| found.alias.as_deref() == Some(tenant.as_str())))
}

/// The company's name, cut to what Keycloak keeps, and the tenant's id: two companies may have one
/// name, and two organizations may not.
fn organization_name(name: &str, tenant: &TenantId) -> String {
    let id = format!(" ({tenant})");
    format!("{}{id}", cut(name.trim(), NAME_LENGTH - id.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organizations_name_ends_in_the_tenants_id_and_fits() {
        let tenant = TenantId::parse("acme").expect("an id");
        assert_eq!(organization_name(" Acme & Söhne ", &tenant), "Acme & Söhne (acme)");
        let tenant = TenantId::parse(&"a".repeat(63)).expect("an id");
        let name = organization_name(&"😀".repeat(200), &tenant);
        assert!(name.ends_with(&format!("😀 ({tenant})")), "{name}");
        assert!(name.encode_utf16().count() <= 255, "{name}");
    }
}
