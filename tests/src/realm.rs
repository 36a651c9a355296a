//! The stack's Keycloak, by its admin API: what a test prepares there, and looks at afterwards.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use simulators::browser::find_mail;
use simulators::tokens;

use crate::{World, stack, text};

/// The realm, as the backend's service account sees it.
pub struct Realm {
    http: Client,
    token: String,
}

impl Realm {
    /// With a token for some minutes.
    ///
    /// # Panics
    /// Where Keycloak gives none.
    pub async fn new() -> Self {
        let http = Client::builder().no_proxy().build().expect("a client");
        let form = [
            ("grant_type", "client_credentials".to_owned()),
            ("client_id", stack("KEYCLOAK_CLIENT_ID")),
            ("client_secret", stack("KEYCLOAK_CLIENT_SECRET")),
        ];
        let url = format!("{}/protocol/openid-connect/token", stack("JWT_ISSUER"));
        let answer = http.post(url).form(&form).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        Self { http, token: text(&answer["access_token"]) }
    }

    /// A world whose functions use this Keycloak.
    pub async fn world(&self) -> World {
        let mut world = World::new().await;
        world.settings.insert("KEYCLOAK_URL".to_owned(), stack("KEYCLOAK_URL"));
        world.restart().await;
        world
    }

    /// Calls it.
    ///
    /// # Panics
    /// Where it refuses.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (base, realm) = (stack("KEYCLOAK_URL"), stack("KEYCLOAK_REALM"));
        let url = format!("{base}/admin/realms/{realm}{path}");
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        let body = answer.json().await.unwrap_or_default();
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    /// The one account of this mail address, with its roles.
    ///
    /// # Panics
    /// Where there is not one.
    pub async fn account(&self, email: &str) -> Value {
        let email: String =
            reqwest::Url::parse_with_params("x:", [("email", email)]).expect("a query").into();
        let query = email.trim_start_matches("x:");
        let mut found = self.call(Method::GET, &format!("/users{query}&exact=true"), None).await;
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
        let mut account = found[0].take();
        let roles = format!("/users/{}/role-mappings/realm", text(&account["id"]));
        let roles = self.call(Method::GET, &roles, None).await;
        account["roles"] = roles
            .as_array()
            .expect("roles")
            .iter()
            .map(|role| role["name"].clone())
            .filter(|role| role != "default-roles-pulse")
            .collect();
        account
    }

    /// An account with a password, such as staff or a stranger has it.
    pub async fn add(&self, email: &str, tenant: Option<&str>) {
        let attributes = tenant.map_or_else(|| json!({}), |tenant| json!({"tenant_id": [tenant]}));
        let account = json!({
            "username": email, "email": email, "enabled": true, "attributes": attributes,
            "credentials": [{"type": "password", "value": "old pass word", "temporary": false}],
        });
        self.call(Method::POST, "/users", Some(account)).await;
    }

    /// The claims' text of a token that the owner of this address gets by it and the password.
    ///
    /// # Panics
    /// Where Keycloak refuses.
    pub async fn log_in(&self, email: &str, password: &str) -> String {
        let (base_url, realm) = (stack("KEYCLOAK_URL"), stack("KEYCLOAK_REALM"));
        let (client_id, client_secret) =
            (stack("KEYCLOAK_CLIENT_ID"), stack("KEYCLOAK_CLIENT_SECRET"));
        let keycloak = tokens::Keycloak {
            base_url: &base_url,
            realm: &realm,
            client_id: &client_id,
            client_secret: &client_secret,
        };
        let token = keycloak.log_in(email, password).await.expect("a token");
        let claims = token.split('.').nth(1).expect("a token").to_owned();
        String::from_utf8(simulators::browser::decode_base64(&claims)).expect("text")
    }

    /// Head and decoded text of the newest mail to this address.
    ///
    /// # Panics
    /// Where none comes.
    pub async fn mail(&self, email: &str) -> (String, String) {
        let folder = stack("MAIL_DIR");
        let began = Instant::now();
        loop {
            if let Some(mail) = find_mail(Path::new(&folder), email).expect("the sink's folder") {
                return mail;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "no mail to {email}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
