//! Keycloak's admin API, as far as provisioning and operators need it (Keycloak's "Admin REST
//! API"), by the service account of one client.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::LOCATION;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::secrets::Secrets;
use crate::base::error::{FieldFault, Service, UPSTREAM, with_causes};
use crate::base::fault;
use crate::base::fault::Point;
use crate::base::ids::TenantId;
use crate::outside::keycloak;
use crate::process::config::KeycloakSettings;
use crate::process::tls;
use crate::{Error, Result};

/// How long the link of a welcome mail works.
const WELCOME_LINK_SECONDS: u32 = 72 * 60 * 60;

/// How far Keycloak's clock may be behind ours.
const CLOCK_SKEW_MILLISECONDS: i64 = 60_000;

/// What `ensure_customer` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountChange {
    /// No such user: made.
    Created,
    /// One that lacked tenant or role: it got them.
    Completed,
    /// One that lacked nothing.
    Unchanged,
}

/// A user of the realm, of a tenant or not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of Keycloak's UserRepresentation")]
pub struct Account {
    pub id: String,
    pub username: String,
    pub email: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub enabled: bool,
    /// In milliseconds; imported users have none.
    pub created_timestamp: Option<i64>,
    #[serde(default)]
    attributes: HashMap<String, Vec<String>>,
}

impl Account {
    /// The tenant of the user. Platform staff has none.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        self.attributes.get("tenant_id")?.first().and_then(|id| TenantId::parse(id).ok())
    }
}

/// The admin API of one realm.
pub struct Keycloak {
    http: reqwest::Client,
    settings: KeycloakSettings,
    secrets: Arc<Secrets>,
    /// The service account's token, and until when it may be used.
    token: Mutex<Option<(String, Instant)>>,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    expires_in: u64,
}

impl Keycloak {
    /// A client. Connects at the first call.
    ///
    /// # Errors
    /// `Setting` where the client secret is missing.
    pub fn new(settings: KeycloakSettings, secrets: Arc<Secrets>) -> Result<Self> {
        secrets.keycloak_client_secret()?;
        let http = tls::http_client(Duration::from_secs(3), Duration::from_secs(10))?;
        Ok(Self { http, settings, secrets, token: Mutex::new(None) })
    }

    /// Makes sure that the user of this mail address exists, belongs to `tenant` and has the role
    /// `customer`. An existing user gets what it lacks, so the next attempt completes one that died
    /// half-way.
    ///
    /// A user of this tenant made after `since` was made by an earlier attempt that crashed or lost
    /// its answer. It counts as created, so that the audit has it.
    ///
    /// # Errors
    /// `Conflict` (`user_of_another_tenant`); `Upstream`.
    pub async fn ensure_customer(
        &self,
        user: &NewAccount,
        tenant: &TenantId,
        since: Timestamp,
    ) -> Result<(String, AccountChange)> {
        let (found, id, mut ensured) = self.find_or_create(user, tenant).await?;
        match found["attributes"]["tenant_id"][0].as_str() {
            Some(theirs) if theirs != tenant.as_str() => {
                return Err(Error::conflict(
                    "user_of_another_tenant",
                    format!("the admin's mail address is already a user of tenant {theirs}"),
                ));
            }
            Some(_)
                if found["createdTimestamp"].as_i64().is_some_and(|made| {
                    made >= since.as_millisecond() - CLOCK_SKEW_MILLISECONDS
                }) =>
            {
                ensured = AccountChange::Created;
            }
            Some(_) => {}
            None => {
                let mut whole = found;
                whole["attributes"]["tenant_id"] = json!([tenant.as_str()]);
                self.call(Method::PUT, &format!("/users/{id}"), |call| call.json(&whole)).await?;
                ensured = AccountChange::Completed;
            }
        }
        if self.grant_customer_role(&id).await? && ensured == AccountChange::Unchanged {
            ensured = AccountChange::Completed;
        }
        Ok((id, ensured))
    }

    /// The same for an operator, who may not claim an existing user: one of another tenant, or of
    /// no tenant, is left alone.
    ///
    /// # Errors
    /// `Conflict` (`user_exists`); `Invalid` where Keycloak does not take a field; `Upstream`.
    pub async fn create_customer(
        &self,
        user: &NewAccount,
        tenant: &TenantId,
    ) -> Result<(String, AccountChange)> {
        let (found, id, mut ensured) = self.find_or_create(user, tenant).await?;
        if found["attributes"]["tenant_id"][0] != tenant.as_str() {
            return Err(keycloak::user_exists());
        }
        if self.grant_customer_role(&id).await? && ensured == AccountChange::Unchanged {
            ensured = AccountChange::Completed;
        }
        Ok((id, ensured))
    }

    /// The user of this id, which must be safe in a path.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn account(&self, user_id: &str) -> Result<Option<Account>> {
        let answer = self.try_call(Method::GET, &format!("/users/{user_id}"), |call| call).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        accept("GET /users/{user_id}", answer).await?.json().await.map(Some).map_err(unreachable)
    }

    /// The users of a tenant by user name, after the first so many.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn accounts(&self, tenant: &TenantId, first: i64, max: i64) -> Result<Vec<Account>> {
        let (tenant, first, max) =
            (format!("tenant_id:{tenant}"), first.to_string(), max.to_string());
        self.read(
            "/users",
            &[("q", &tenant), ("first", &first), ("max", &max), ("briefRepresentation", "false")],
        )
        .await
    }

    /// Lets the user log in, or not any more. Nothing else of it changes.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn set_enabled(&self, user_id: &str, enabled: bool) -> Result<()> {
        self.call(Method::PUT, &format!("/users/{user_id}"), |call| {
            call.json(&json!({"enabled": enabled}))
        })
        .await
        .map(drop)
    }

    /// Sends the mail that lets the user set a password.
    ///
    /// # Errors
    /// `Upstream`, permanent where there is no such user or it is disabled.
    pub async fn send_welcome_mail(&self, user_id: &str) -> Result<()> {
        let path = format!("/users/{user_id}/execute-actions-email");
        self.call(Method::PUT, &path, |call| {
            call.query(&[("lifespan", WELCOME_LINK_SECONDS)]).json(&["UPDATE_PASSWORD"])
        })
        .await?;
        fault::point(Point::OutboxMailSent);
        Ok(())
    }

    /// The user of this mail address and its id, made for the tenant where there was none.
    async fn find_or_create(
        &self,
        user: &NewAccount,
        tenant: &TenantId,
    ) -> Result<(Value, String, AccountChange)> {
        let email = user.email.to_lowercase();
        let (found, ensured) = match self.find(&email).await? {
            Some(found) => (found, AccountChange::Unchanged),
            None => match self.create(user, &email, tenant).await? {
                Some(id) => (
                    json!({"id": id, "attributes": {"tenant_id": [tenant.as_str()]}}),
                    AccountChange::Created,
                ),
                // Made by another between the two calls.
                None => (
                    self.find(&email).await?.ok_or_else(|| {
                        Error::unavailable(Service::Keycloak, "a user that exists cannot be found")
                    })?,
                    AccountChange::Unchanged,
                ),
            },
        };
        let id = found["id"]
            .as_str()
            .ok_or_else(|| Error::refused(Service::Keycloak, "a user without id"))?
            .to_owned();
        Ok((found, id, ensured))
    }

    async fn find(&self, email: &str) -> Result<Option<Value>> {
        // A user whose name is the address, but whose mail address was changed since, would make
        // every `create` a conflict.
        for field in ["email", "username"] {
            let users: Vec<Value> =
                self.read("/users", &[(field, email), ("exact", "true")]).await?;
            if let Some(user) = users.into_iter().next() {
                return Ok(Some(user));
            }
        }
        Ok(None)
    }

    /// The new user's id, or none where one of that address exists.
    async fn create(
        &self,
        user: &NewAccount,
        email: &str,
        tenant: &TenantId,
    ) -> Result<Option<String>> {
        let body = json!({
            "username": email, "email": email, "firstName": user.first_name,
            "lastName": user.last_name,
            "enabled": true, "emailVerified": false, "attributes": {"tenant_id": [tenant.as_str()]},
        });
        let answer = self.try_call(Method::POST, "/users", |call| call.json(&body)).await?;
        if answer.status() == StatusCode::CONFLICT {
            return Ok(None);
        }
        let answer = accept("POST /users", answer).await?;
        fault::point(Point::OutboxUserCreated);
        let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let id =
            location.and_then(|location| location.rsplit('/').next()).filter(|id| !id.is_empty());
        id.map(|id| Some(id.to_owned()))
            .ok_or_else(|| Error::unavailable(Service::Keycloak, "no Location for the new user"))
    }

    /// Whether the role was missing. The service account may not read roles by name: it picks from
    /// those that the user could get.
    async fn grant_customer_role(&self, user_id: &str) -> Result<bool> {
        let mappings = format!("/users/{user_id}/role-mappings/realm");
        let has_role = |roles: &[Value]| roles.iter().any(|role| role["name"] == "customer");
        let available: Vec<Value> = self.read(&format!("{mappings}/available"), &[]).await?;
        let Some(role) = available.iter().find(|role| role["name"] == "customer") else {
            let held: Vec<Value> = self.read(&mappings, &[]).await?;
            return if has_role(&held) {
                Ok(false)
            } else {
                Err(Error::unavailable(Service::Keycloak, "the realm has no role customer"))
            };
        };
        self.call(Method::POST, &mappings, |call| call.json(&[role])).await?;
        fault::point(Point::OutboxRoleGranted);
        Ok(true)
    }

    async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<T>> {
        let answer = self.call(Method::GET, path, |call| call.query(query)).await?;
        answer.json().await.map_err(unreachable)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        build: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response> {
        let what = format!("{method} {}", path.split('?').next().unwrap_or_default());
        accept(&what, self.try_call(method, path, build).await?).await
    }

    /// Calls with a token, and again with a fresh one if it is refused: a restarted Keycloak does
    /// not know older tokens.
    async fn try_call(
        &self,
        method: Method,
        path: &str,
        build: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response> {
        let url = format!("{}/admin/realms/{}{path}", self.settings.url, self.settings.realm);
        let call = async || {
            build(self.http.request(method.clone(), &url).bearer_auth(self.token().await?))
                .send()
                .await
                .map_err(unreachable)
        };
        let answer = call().await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        *self.token.lock().await = None;
        call().await
    }

    async fn token(&self) -> Result<String> {
        let mut held = self.token.lock().await;
        if let Some((token, _)) = held.as_ref().filter(|(_, until)| *until > Instant::now()) {
            return Ok(token.clone());
        }
        let mut token = self.fetch_token().await?;
        if token.is_none() && self.secrets.refresh().await? {
            token = self.fetch_token().await?;
        }
        // A wrong client secret is mended by an operator; what waits must outlive that.
        let token = token
            .ok_or_else(|| Error::unavailable(Service::Keycloak, "the client secret is refused"))?;
        // Renewed before its end: it must outlive the call.
        let until = Instant::now() + Duration::from_secs(token.expires_in.saturating_sub(20));
        *held = Some((token.access_token.clone(), until));
        Ok(token.access_token)
    }

    /// A new token, or none where the client secret is refused.
    async fn fetch_token(&self) -> Result<Option<Token>> {
        let url = format!(
            "{}/realms/{}/protocol/openid-connect/token",
            self.settings.url, self.settings.realm
        );
        let secret = self.secrets.keycloak_client_secret()?;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.settings.client_id),
            ("client_secret", &secret),
        ];
        let answer = self.http.post(url).form(&form).send().await.map_err(unreachable)?;
        match answer.status() {
            StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST => Ok(None),
            _ => accept("POST token", answer).await?.json().await.map(Some).map_err(unreachable),
        }
    }
}

fn unreachable(error: reqwest::Error) -> Error {
    Error::unavailable(Service::Keycloak, with_causes(&error.without_url()))
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ErrorBody {
    error: Option<String>,
    error_message: Option<String>,
    /// Of the user's profile, where one is to blame.
    field: Option<String>,
    /// Where several are.
    errors: Vec<ErrorBody>,
}

impl ErrorBody {
    /// The fields that are to blame, by our names. What was sent is not quoted.
    fn faults(&self) -> Vec<FieldFault> {
        let all = if self.errors.is_empty() { std::slice::from_ref(self) } else { &self.errors };
        let fault = |refusal: &Self| {
            let field = match refusal.field.as_deref()? {
                // The user name is the address.
                "email" | "username" => "email",
                "firstName" => "first_name",
                "lastName" => "last_name",
                _ => return None,
            };
            let why = refusal.error_message.as_deref().unwrap_or_default();
            Some(FieldFault {
                field: field.to_owned(),
                message: format!("is not taken by Keycloak ({why})"),
            })
        };
        all.iter().filter_map(fault).collect()
    }
}

/// Turns a refusal into an error. What is wrong with the request stays wrong; rights, overload and
/// faults of the server pass.
async fn accept(what: &str, answer: Response) -> Result<Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let said: ErrorBody = answer.json().await.unwrap_or_default();
    let faults = if status == StatusCode::BAD_REQUEST { said.faults() } else { Vec::new() };
    if !faults.is_empty() {
        return Err(Error::Invalid(faults));
    }
    let said = said.error_message.or(said.error).unwrap_or_default();
    let permanent =
        matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::CONFLICT);
    Err(Error::Upstream {
        service: Service::Keycloak,
        code: UPSTREAM,
        transient: !permanent,
        detail: format!("{what} answered {status}: {said}"),
    })
}

/// The user that a `keycloak_user` step makes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewAccount {
    /// Mail address and user name.
    pub email: String,
    /// First name, if known.
    pub first_name: Option<String>,
    /// Last name, if known.
    pub last_name: Option<String>,
}

/// Of whatever tenant, or none: that is not the caller's to know.
pub(crate) fn user_exists() -> Error {
    Error::conflict("user_exists", "A user with this email exists already")
}
