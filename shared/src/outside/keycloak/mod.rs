//! Keycloak's admin API, as far as provisioning and operators need it (Keycloak's "Admin REST
//! API"), by the service account of one client.

mod organizations;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
use crate::process::config::{KeycloakSettings, Landing};
use crate::process::tls;
use crate::{Error, Result};

/// How long the link of a welcome mail works.
const WELCOME_LINK_SECONDS: u32 = 72 * 60 * 60;

/// How long a first or last name, or an organization's, may be.
const NAME_LENGTH: usize = 255;

/// How many users are read at once to count them.
const COUNTED_AT_ONCE: i64 = 500;

/// What `create_customer` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountChange {
    /// No such user: made.
    Created,
    /// One of the tenant that lacked the role: it got it.
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

    /// The id, if the user is of this tenant.
    #[must_use]
    pub fn id_of(self, tenant: &TenantId) -> Option<String> {
        (self.tenant().as_ref() == Some(tenant)).then_some(self.id)
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
        secrets.check("KEYCLOAK_CLIENT_SECRET", Secrets::keycloak_client_secret)?;
        let http = tls::http_client(Duration::from_secs(3), Duration::from_secs(10))?;
        Ok(Self { http, settings, secrets, token: Mutex::new(None) })
    }

    /// The customer of this tenant and mail address, made or completed for an operator, who may not
    /// claim an existing user: one of another tenant, or of none, is left alone.
    ///
    /// # Errors
    /// `Conflict` (`user_exists`); `Invalid` where Keycloak does not take a field; `Upstream`.
    pub async fn create_customer(
        &self,
        user: &NewAccount,
        tenant: &TenantId,
    ) -> Result<(String, AccountChange)> {
        let email = user.email.to_lowercase();
        let own = |account: Account| account.id_of(tenant).ok_or_else(user_exists);
        let (id, change) = match self.find(&email).await? {
            Some(account) => (own(account)?, AccountChange::Unchanged),
            None => {
                if let Some(id) = self.create(user, tenant).await? {
                    (id, AccountChange::Created)
                } else {
                    // Made by another between the two calls.
                    let account = self.find(&email).await?.ok_or_else(not_to_be_found)?;
                    (own(account)?, AccountChange::Unchanged)
                }
            }
        };
        let granted = self.grant_customer_role(&id).await?;
        let completed = granted && change == AccountChange::Unchanged;
        Ok((id, if completed { AccountChange::Completed } else { change }))
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

    /// The users by user name, after the first so many, that Keycloak finds for a tenant. The caller
    /// checks the tenant of each: Keycloak compares without regard to case.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn accounts(&self, tenant: &TenantId, first: i64, max: i64) -> Result<Vec<Account>> {
        let (tenant, first, max) =
            (format!("tenant_id:{tenant}"), first.to_string(), max.to_string());
        self.read(
            "/users",
            &[
                ("q", &tenant),
                ("exact", "true"),
                ("first", &first),
                ("max", &max),
                ("briefRepresentation", "false"),
            ],
        )
        .await
    }

    /// How many users of a tenant may log in.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn count_enabled(&self, tenant: &TenantId) -> Result<i64> {
        let (mut first, mut enabled) = (0, 0);
        loop {
            let page = self.accounts(tenant, first, COUNTED_AT_ONCE).await?;
            let mut found = 0;
            for account in page {
                found += 1;
                let counts = account.enabled && account.tenant().as_ref() == Some(tenant);
                enabled += i64::from(counts);
            }
            first += found;
            if found < COUNTED_AT_ONCE {
                return Ok(enabled);
            }
        }
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

    /// Deletes the user. False where there is none.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn delete_account(&self, user_id: &str) -> Result<bool> {
        let path = format!("/users/{user_id}");
        let answer = self.try_call(Method::DELETE, &path, |call| call).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        accept("DELETE /users/{user_id}", answer).await.map(|_| true)
    }

    /// Sends the mail that lets the user set a password. Its last page leads to the product, if a
    /// deployment says where that is.
    ///
    /// # Errors
    /// `Upstream`, permanent where there is no such user or it is disabled.
    pub async fn send_welcome_mail(&self, user_id: &str) -> Result<()> {
        let path = format!("/users/{user_id}/execute-actions-email");
        let send = async |landing: Option<&Landing>| {
            let landing = landing.map(|landing| {
                [("client_id", &landing.client_id), ("redirect_uri", &landing.redirect_uri)]
            });
            self.try_call(Method::PUT, &path, |call| {
                call.query(&[("lifespan", WELCOME_LINK_SECONDS)])
                    .query(landing.as_slice().as_flattened())
                    .json(&["UPDATE_PASSWORD"])
            })
            .await
        };
        let landing = self.settings.landing.as_ref();
        let mut answer = send(landing).await?;
        if answer.status() == StatusCode::BAD_REQUEST && landing.is_some() {
            // A wrong setting costs the way back to the product, and not the mail.
            answer = send(None).await?;
            if answer.status().is_success() {
                tracing::error!(
                    "Keycloak refuses WELCOME_REDIRECT_URI for the client WELCOME_CLIENT_ID: a \
                     welcome mail was sent without a way to the product"
                );
            }
        }
        accept("PUT /users/{user_id}/execute-actions-email", answer).await?;
        fault::point(Point::OutboxMailSent);
        Ok(())
    }

    /// The user of this mail address, which must be in lower case: of any tenant, or of none.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn find(&self, email: &str) -> Result<Option<Account>> {
        // A user whose name is the address, but whose mail address was changed since, would make
        // every `create` a conflict.
        for field in ["email", "username"] {
            let query = [(field, email), ("exact", "true"), ("briefRepresentation", "false")];
            let users: Vec<Account> = self.read("/users", &query).await?;
            let found = users
                .into_iter()
                .find(|user| user.email.as_deref() == Some(email) || user.username == email);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Makes a user of the tenant, without a role, and returns its id; `None` where a user of that
    /// address or name exists. The tenant is set by the same call: no user of ours is without one.
    ///
    /// # Errors
    /// `Invalid` where Keycloak does not take a field; `Upstream`.
    pub async fn create(&self, user: &NewAccount, tenant: &TenantId) -> Result<Option<String>> {
        let email = user.email.to_lowercase();
        let mut body = json!({
            "username": email, "email": email, "firstName": user.first_name,
            "lastName": user.last_name,
            "enabled": true, "emailVerified": false, "attributes": {"tenant_id": [tenant.as_str()]},
        });
        let mut answer = self.post_user(&body).await;
        if let Err(Error::Invalid(faults)) = &answer
            && faults.iter().any(|fault| fault.field == "username")
        {
            // Not every mail address may be a user name: o'brien@, r&d@. Its owner logs in by the
            // address all the same.
            body["username"] = json!(spare_username(&email));
            answer = self.post_user(&body).await;
        }
        let Some(answer) = answer? else { return Ok(None) };
        fault::point(Point::OutboxUserCreated);
        made_id(&answer, "user").map(Some)
    }

    /// `None` where such a user exists.
    async fn post_user(&self, body: &Value) -> Result<Option<Response>> {
        let answer = self.try_call(Method::POST, "/users", |call| call.json(body)).await?;
        if answer.status() == StatusCode::CONFLICT {
            return Ok(None);
        }
        accept("POST /users", answer).await.map(Some)
    }

    /// The user of this id, which was made for this tenant.
    ///
    /// # Errors
    /// `Upstream`, also where the user is gone or the realm dropped its tenant.
    pub async fn customer(&self, user_id: &str, tenant: &TenantId) -> Result<Account> {
        let account = self.account(user_id).await?.ok_or_else(|| {
            Error::unavailable(Service::Keycloak, "a user that was just made is gone")
        })?;
        if account.tenant().as_ref() != Some(tenant) {
            return Err(Error::refused(
                Service::Keycloak,
                "the user was made without its tenant: declare the attribute tenant_id in the realm",
            ));
        }
        Ok(account)
    }

    /// Whether the role was missing. The service account may not read roles by name: it picks from
    /// those that the user could get.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn grant_customer_role(&self, user_id: &str) -> Result<bool> {
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
        let secret = self.secrets.needed(Secrets::keycloak_client_secret).await?;
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

/// The id of what a POST has made.
fn made_id(answer: &Response, what: &str) -> Result<String> {
    let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let id = location.and_then(|location| location.rsplit('/').next()).filter(|id| !id.is_empty());
    id.map(str::to_owned).ok_or_else(|| {
        Error::unavailable(Service::Keycloak, format!("no Location for the new {what}"))
    })
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
                "email" => "email",
                "username" => "username",
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

/// A user to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewAccount {
    /// Mail address, which is also the user name where Keycloak takes it for one.
    pub email: String,
    /// First name, if known.
    pub first_name: Option<String>,
    /// Last name, if known.
    pub last_name: Option<String>,
}

impl NewAccount {
    /// Without what Keycloak refuses in names by default ("R&D", "Jane (CTO)"): nobody is there to
    /// correct what a payer typed.
    #[must_use]
    pub fn with_clean_names(&self) -> Self {
        let clean = |name: &Option<String>| clean_name(name.as_deref()?);
        Self {
            email: self.email.clone(),
            first_name: clean(&self.first_name),
            last_name: clean(&self.last_name),
        }
    }

    /// Without names.
    #[must_use]
    pub fn nameless(&self) -> Self {
        Self { email: self.email.clone(), first_name: None, last_name: None }
    }
}

/// The name with a blank for each character that Keycloak's `person-name-prohibited-characters`
/// refuses, cut to the length that its profile allows. `None` where nothing is left.
fn clean_name(name: &str) -> Option<String> {
    const REFUSED: &str = "<>&\"$%!#?§;*~/\\|^=[]{}()";
    let blanked: String =
        name.chars().map(|c| if c.is_control() || REFUSED.contains(c) { ' ' } else { c }).collect();
    let words = blanked.split_whitespace().collect::<Vec<_>>().join(" ");
    let short = cut(&words, NAME_LENGTH);
    (!short.is_empty()).then(|| short.to_owned())
}

/// The beginning of a text, of at most so many units of UTF-16, as Java counts.
fn cut(text: &str, length: usize) -> &str {
    let mut units = 0;
    let over = text.char_indices().find(|(_, c)| {
        units += c.len_utf16();
        units > length
    });
    over.map_or(text, |(end, _)| &text[..end]).trim_end()
}

/// A user name for a mail address that cannot be one; always the same for an address.
fn spare_username(email: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, email.as_bytes());
    format!("user-{}", &hex::encode(digest)[..20])
}

/// Of whatever tenant, or none: that is not the caller's to know.
pub(crate) fn user_exists() -> Error {
    Error::conflict("user_exists", "A user with this email exists already")
}

pub(crate) fn not_to_be_found() -> Error {
    Error::unavailable(Service::Keycloak, "a user that exists cannot be found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_what_keycloak_takes() {
        for (name, clean) in [
            ("Jane", Some("Jane")),
            ("R&D", Some("R D")),
            ("Jane (CTO)", Some("Jane CTO")),
            ("Meier/Huber", Some("Meier Huber")),
            ("  O'Neil-Smith,\tJr. ", Some("O'Neil-Smith, Jr.")),
            ("Ünal 李", Some("Ünal 李")),
            ("<&>", None),
            ("", None),
        ] {
            assert_eq!(clean_name(name).as_deref(), clean, "{name:?}");
        }
        assert_eq!(clean_name(&"x".repeat(300)).map(|name| name.len()), Some(255));
        assert_eq!(clean_name(&"😀".repeat(300)).map(|name| name.chars().count()), Some(127));
    }
}
