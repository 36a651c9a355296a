//! Access tokens for made-up users of a real or embedded Keycloak. `cargo xtask token` prints them,
//! and the end-to-end tests send them.

use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use aws_lc_rs::digest::SHA256;
use aws_lc_rs::digest::digest;
use reqwest::Client;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Response;
use serde_json::Value;
use serde_json::json;

use crate::keycloak::PUBLIC_CLIENT;

/// How often a refused attempt is repeated. This suffices for a dozen concurrent calls, each of
/// which waits for all the calls before it.
const RETRIES: usize = 50;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// The role of the user that a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role<'a> {
    /// Platform staff with read access.
    Operator,
    /// Platform staff with read and write access.
    OperatorAdmin,
    /// Another backend.
    Service,
    /// A customer of this tenant.
    Customer(&'a str),
}

impl Role<'_> {
    /// Returns the name of the realm role.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::OperatorAdmin => "operator_admin",
            Self::Service => "service",
            Self::Customer(_) => "customer",
        }
    }

    /// Returns the username of the one user with this role, which is also its email address.
    #[must_use]
    pub fn username(self) -> String {
        match self {
            Self::Operator => "dev-operator@pulse.example".to_owned(),
            Self::OperatorAdmin => "dev-operator-admin@pulse.example".to_owned(),
            Self::Service => "dev-service@pulse.example".to_owned(),
            // The tenant is in the host name: Keycloak allows 64 characters before the @, and a
            // tenant's id alone may have 63, the maximum for a label of a host name.
            Self::Customer(tenant) => format!("dev-customer@{tenant}.pulse.example"),
        }
    }
}

/// A realm and the backend's client in it, whose service account manages users.
#[derive(Clone, Copy)]
pub struct Keycloak<'a> {
    /// The base URL: `http://host:port`.
    pub base_url: &'a str,
    /// The realm's name.
    pub realm: &'a str,
    /// The id of the backend's client.
    pub client_id: &'a str,
    /// The secret of the backend's client.
    pub client_secret: &'a str,
}

impl Keycloak<'_> {
    /// Returns an access token for the user with this role. Creates the user if there is none. Any
    /// number of calls may run concurrently.
    ///
    /// # Errors
    /// When Keycloak cannot be reached or keeps refusing.
    pub async fn token(&self, role: Role<'_>) -> Result<String> {
        let users = Users {
            http: http_client()?,
            realm: format!("{}/admin/realms/{}", self.base_url, self.realm),
            token: self.service_token().await?,
        };
        // Of concurrent calls for one user, Keycloak accepts one and refuses the others. This
        // applies to creating the user, assigning its role and even logging in.
        for _ in 0..RETRIES {
            if let Ok(token) = self.attempt(&users, role).await {
                return Ok(token);
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.attempt(&users, role).await
    }

    async fn attempt(&self, users: &Users, role: Role<'_>) -> Result<String> {
        let password = self.password(role);
        let id = users.ensure(role, &password).await?;
        users.ensure_role(&id, role.name()).await?;
        let outcome = self.log_in(&role.username(), &password).await;
        if outcome.is_err() {
            users.reset_wrong_password(&id, &password).await?;
        }
        outcome
    }

    /// Returns the ID token and the refresh token of a log-in as the user with this role, which must
    /// have one already.
    ///
    /// # Errors
    /// When Keycloak cannot be reached or refuses.
    pub async fn other_tokens(&self, role: Role<'_>) -> Result<[String; 2]> {
        let (username, password) = (role.username(), self.password(role));
        let answer = self
            .answer(&[
                ("grant_type", "password"),
                ("scope", "openid"),
                ("client_id", PUBLIC_CLIENT),
                ("username", &username),
                ("password", &password),
            ])
            .await?;
        let token = |name: &str| answer[name].as_str().map(str::to_owned).context("no such token");
        Ok([token("id_token")?, token("refresh_token")?])
    }

    /// Returns an access token for the client's service account.
    ///
    /// # Errors
    /// When Keycloak cannot be reached or refuses.
    pub async fn service_token(&self) -> Result<String> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", self.client_id),
            ("client_secret", self.client_secret),
        ];
        self.grant(&form).await
    }

    /// Returns an access token for the user with this username or email address.
    ///
    /// # Errors
    /// When Keycloak cannot be reached or refuses.
    pub async fn log_in(&self, username: &str, password: &str) -> Result<String> {
        self.grant(&[
            ("grant_type", "password"),
            ("client_id", PUBLIC_CLIENT),
            ("username", username),
            ("password", password),
        ])
        .await
    }

    async fn answer(&self, form: &[(&str, &str)]) -> Result<Value> {
        let url = format!("{}/realms/{}/protocol/openid-connect/token", self.base_url, self.realm);
        Ok(send_checked(http_client()?.post(url).form(form)).await?.json().await?)
    }

    async fn grant(&self, form: &[(&str, &str)]) -> Result<String> {
        self.answer(form).await?["access_token"]
            .as_str()
            .map(str::to_owned)
            .context("Keycloak returned no access token")
    }

    /// Returns the username and password of the user with this role, who must have had a token.
    #[must_use]
    pub fn login(&self, role: Role<'_>) -> (String, String) {
        (role.username(), self.password(role))
    }

    /// Derives the user's password from the client's secret, without which it cannot be guessed.
    /// The result is always the same, so that concurrent calls agree; people can type it.
    #[must_use]
    pub fn password(&self, role: Role<'_>) -> String {
        let text = format!("{} {}", self.client_secret, role.username());
        let hash = hex::encode(digest(&SHA256, text.as_bytes()));
        hash.chars().take(20).collect()
    }
}

/// Manages the realm's users through the admin REST API.
struct Users {
    http: Client,
    realm: String,
    token: String,
}

impl Users {
    /// Returns the id of the role's user. Creates the user if there is none.
    async fn ensure(&self, role: Role<'_>, password: &str) -> Result<String> {
        let username = role.username();
        if let Some(id) = self.find(&username).await? {
            return Ok(id);
        }
        // Keycloak refuses a log-in until the profile is complete.
        let mut user = json!({
            "username": username, "email": username, "emailVerified": true, "enabled": true,
            "firstName": "Dev", "lastName": role.name(),
            "credentials": [credential(password)],
        });
        if let Role::Customer(tenant) = role {
            user["attributes"] = json!({ "tenant_id": [tenant] });
        }
        send_checked(self.call(Method::POST, "/users").json(&user)).await?;
        self.find(&username).await?.context("Keycloak does not find a user that it created")
    }

    async fn find(&self, username: &str) -> Result<Option<String>> {
        let call =
            self.call(Method::GET, "/users").query(&[("username", username), ("exact", "true")]);
        let found: Value = send_checked(call).await?.json().await?;
        Ok(found[0]["id"].as_str().map(str::to_owned))
    }

    /// Assigns the realm role to the user. The service account may not read roles by name, so this
    /// picks from the roles that are available to the user.
    async fn ensure_role(&self, id: &str, name: &str) -> Result<()> {
        let mappings = format!("/users/{id}/role-mappings/realm");
        if let Some(role) = self.role(&format!("{mappings}/available"), name).await? {
            send_checked(self.call(Method::POST, &mappings).json(&[role])).await?;
        }
        ensure!(self.role(&mappings, name).await?.is_some(), "the realm has no role {name}");
        Ok(())
    }

    async fn role(&self, path: &str, name: &str) -> Result<Option<Value>> {
        let roles: Vec<Value> = send_checked(self.call(Method::GET, path)).await?.json().await?;
        Ok(roles.into_iter().find(|role| role["name"] == name))
    }

    /// Resets the password if it is wrong, because it was changed or because the client had another
    /// secret when the user was created. Keycloak's answer to a log-in does not show whether the
    /// password was wrong, but its count of failed log-ins does.
    async fn reset_wrong_password(&self, id: &str, password: &str) -> Result<()> {
        let failures = format!("/attack-detection/brute-force/users/{id}");
        let counted: Value = send_checked(self.call(Method::GET, &failures)).await?.json().await?;
        if counted["numFailures"] != 0 {
            send_checked(
                self.call(Method::PUT, &format!("/users/{id}/reset-password"))
                    .json(&credential(password)),
            )
            .await?;
            // Two failures within a second lock the user for a minute.
            send_checked(self.call(Method::DELETE, &failures)).await?;
        }
        Ok(())
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.realm)).bearer_auth(&self.token)
    }
}

fn credential(password: &str) -> Value {
    json!({ "type": "password", "value": password, "temporary": false })
}

/// Builds a client for one use: a kept connection ends with the runtime of the test that opened it.
fn http_client() -> Result<Client> {
    Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().context("HTTP client")
}

/// Sends a request. An unsuccessful response is an error that includes the response text.
async fn send_checked(call: RequestBuilder) -> Result<Response> {
    let answer = call.send().await?;
    let (url, status) = (answer.url().clone(), answer.status());
    if !status.is_success() {
        bail!("{url} answers {status}: {}", answer.text().await?);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keycloak::Fake;
    use crate::keycloak::Options;
    use crate::keycloak::User;

    async fn fake() -> Fake {
        let options = Options {
            listen: ([127, 0, 0, 1], 0).into(),
            realm: "pulse".to_owned(),
            client_id: "pulse-backend".to_owned(),
            client_secret: "secret".to_owned(),
            smtp: None,
            origins: Vec::new(),
        };
        Fake::start(options).await.expect("a fake")
    }

    fn claims(token: &str) -> Value {
        jsonwebtoken::dangerous::insecure_decode(token).expect("a token").claims
    }

    #[tokio::test]
    async fn concurrent_and_repeated_calls_return_a_token_for_each_role() {
        let fake = fake().await;
        let base_url = fake.base_url();
        let keycloak = Keycloak {
            base_url: &base_url,
            realm: "pulse",
            client_id: "pulse-backend",
            client_secret: "secret",
        };
        let longest = "t".repeat(63);
        for role in [
            Role::Operator,
            Role::OperatorAdmin,
            Role::Service,
            Role::Customer("acme"),
            Role::Customer(&longest),
        ] {
            let users = fake.users().len();
            let (one, other) = tokio::join!(keycloak.token(role), keycloak.token(role));
            for token in [one, other, keycloak.token(role).await] {
                let claims = claims(&token.expect("a token"));
                assert_eq!(claims["aud"], json!(["pulse-api"]));
                assert!(
                    claims["realm_access"]["roles"]
                        .as_array()
                        .expect("roles")
                        .contains(&json!(role.name()))
                );
                let tenant =
                    if let Role::Customer(tenant) = role { json!(tenant) } else { Value::Null };
                assert_eq!(claims["tenant_id"], tenant);
            }
            assert_eq!(fake.users().len(), users + 1);
        }
    }

    #[tokio::test]
    async fn a_wrong_password_is_reset() {
        let fake = fake().await;
        let base_url = fake.base_url();
        let keycloak = Keycloak {
            base_url: &base_url,
            realm: "pulse",
            client_id: "pulse-backend",
            client_secret: "secret",
        };
        let _ = fake.add_user(User {
            username: Role::Service.username(),
            enabled: true,
            password: Some("theirs".to_owned()),
            ..User::default()
        });
        let (one, other) =
            tokio::join!(keycloak.token(Role::Service), keycloak.token(Role::Service));
        assert_eq!(claims(&one.expect("a token"))["sub"], claims(&other.expect("a token"))["sub"]);
        let resets = |fake: &Fake| {
            fake.requests().iter().filter(|(_, path)| path.ends_with("/reset-password")).count()
        };
        let before = resets(&fake);
        keycloak.token(Role::Service).await.expect("a token");
        assert!(before > 0 && resets(&fake) == before);
    }

    #[tokio::test]
    async fn keycloaks_message_is_in_the_error() {
        let fake = fake().await;
        let base_url = fake.base_url();
        let keycloak = Keycloak {
            base_url: &base_url,
            realm: "pulse",
            client_id: "pulse-backend",
            client_secret: "wrong",
        };
        let error = keycloak.token(Role::Operator).await.expect_err("no token");
        assert!(
            error.to_string().contains("Invalid client or Invalid client credentials"),
            "{error:#}"
        );
    }
}
