//! The admin API's organizations, as far as they are in use.

use axum::http::HeaderName;
use axum::http::Method;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::response::Response;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Core;
use super::http::Result;
use super::http::admin_error;
use super::http::field;
use super::http::not_found;
use super::http::ok;
use super::http::representation;
use super::uuid;
use crate::server::lock;

/// An organization of the realm.
#[derive(Clone, Debug, Default)]
pub struct Organization {
    /// A UUID.
    pub id: String,
    /// The name, unique in the realm.
    pub name: String,
    /// Set once, and unique in the realm.
    pub alias: String,
    /// The rest of the representation, such as `enabled` and `domains`.
    pub rest: Map<String, Value>,
    /// The ids of its users.
    pub members: Vec<String>,
}

impl Organization {
    /// Takes over a representation. Keycloak clears what it omits.
    fn apply(&mut self, input: &Value) -> Result<()> {
        let name = input["name"].as_str().filter(|name| !name.trim().is_empty());
        let name =
            name.ok_or_else(|| admin_error(StatusCode::BAD_REQUEST, "Name can not be null"))?;
        if input["alias"].as_str().is_some_and(|alias| alias != self.alias) {
            return Err(admin_error(StatusCode::BAD_REQUEST, "Cannot change the alias"));
        }
        name.clone_into(&mut self.name);
        self.rest = input.as_object().cloned().unwrap_or_default();
        self.rest.retain(|key, _| !["id", "name", "alias"].contains(&key.as_str()));
        Ok(())
    }

    fn representation(&self) -> Value {
        let mut json = json!({ "id": self.id, "name": self.name, "alias": self.alias });
        json.as_object_mut().expect("an object").extend(self.rest.clone());
        json
    }
}

pub(super) fn endpoint(
    core: &Core,
    method: &Method,
    path: &[&str],
    query: &[(String, String)],
    body: impl FnOnce() -> Result<Value>,
) -> Result<Response> {
    let mut realm = lock(&core.realm);
    if realm.has_no_organizations {
        let message = "Organizations not enabled for this realm.";
        return Err(admin_error(StatusCode::NOT_FOUND, message));
    }
    let (first, max) =
        (field(query, "first").parse().unwrap_or(0), field(query, "max").parse().unwrap_or(10));
    let (organizations, users) = (realm.organizations.clone(), &realm.users);
    let same = |what| {
        let message = format!("A organization with the same {what} already exists.");
        admin_error(StatusCode::CONFLICT, &message)
    };
    let index = |id: &str| {
        let found = organizations.iter().position(|organization| organization.id == id);
        found.ok_or_else(|| admin_error(StatusCode::NOT_FOUND, "Organization not found."))
    };
    match (method.as_str(), path) {
        ("GET", []) => {
            let alias = field(query, "q").strip_prefix("alias:");
            let found = organizations
                .iter()
                .filter(|organization| alias.is_none_or(|alias| organization.alias == alias));
            Ok(ok(&found.skip(first).take(max).map(Organization::representation).collect()))
        }
        ("POST", []) => {
            let input = body()?;
            let alias = input["alias"].as_str().unwrap_or_default().to_owned();
            let mut new = Organization { id: uuid(), alias, ..Organization::default() };
            new.apply(&input)?;
            if organizations.iter().any(|other| other.name == new.name) {
                return Err(same("name"));
            }
            if organizations.iter().any(|other| other.alias == new.alias) {
                return Err(same("alias"));
            }
            let location = format!("{}/organizations/{}", core.base_url, new.id);
            realm.organizations.push(new);
            let location = [(HeaderName::from_static("location"), location)];
            Ok((StatusCode::CREATED, location).into_response())
        }
        ("PUT", [id]) => {
            let (index, input) = (index(id)?, body()?);
            if organizations.iter().any(|other| other.id != *id && other.name == input["name"]) {
                return Err(same("name"));
            }
            realm.organizations[index].apply(&input)?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        ("DELETE", [id]) => {
            let index = index(id)?;
            realm.organizations.remove(index);
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        ("GET", [id, "members"]) => {
            let members = &organizations[index(id)?].members;
            let found = users.iter().filter(|user| members.contains(&user.id));
            Ok(ok(&found.skip(first).take(max).map(representation).collect()))
        }
        ("POST", [id, "members"]) => {
            let (index, input) = (index(id)?, body()?);
            let user = input.as_str().unwrap_or_default().to_owned();
            if !users.iter().any(|known| known.id == user) {
                return Err(not_found("HTTP 404 Not Found"));
            }
            if organizations[index].members.contains(&user) {
                let message = "User is already a member of the organization.";
                return Err(admin_error(StatusCode::CONFLICT, message));
            }
            realm.organizations[index].members.push(user);
            Ok(StatusCode::CREATED.into_response())
        }
        _ => Err(not_found("HTTP 404 Not Found")),
    }
}
