//! A caller of the HTTP functions: of a world's own, all behind one router, or of the running
//! stack's at its address.

use std::collections::HashMap;

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use billing::BillingApp;
use device_tier::DevicesApp;
use lambda_http::request::RequestContext;
use operations::OperationsApp;
use serde_json::{Value, json};
use shared::base::clock::Clock;
use shared::base::codes::CODES;
use shared::http::app::{App, CustomerApp, OperatorApp};
use shared::process::config::Env;
use simulators::keycloak::Fake;
use simulators::tokens;
use tenants::TenantsApp;
use tokio::sync::Mutex;
use tower::ServiceExt as _;
use utoipa::OpenApi as _;

use crate::{World, stack};

/// Where a world's requests come from, as API Gateway would say.
pub const SOURCE_IP: &str = "203.0.113.7";

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who<'a> {
    /// Without a token.
    Nobody,
    /// `operator`.
    Operator,
    /// `operator_admin`.
    Admin,
    /// `service`.
    Service,
    /// `customer` of a tenant.
    Customer(&'a str),
    /// Whoever has this token.
    Token(&'a str),
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; null where it is empty or no JSON.
    pub body: Value,
}

impl Reply {
    /// A header's text; empty where it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body of an answer of this status.
    ///
    /// # Panics
    /// Where it has another.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "an assertion")]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// Asserts a problem of this status and code, and returns its detail.
    ///
    /// # Panics
    /// Where it is another, or not one that docs/api.md describes.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "an assertion")]
    pub fn problem(&self, status: u16, code: &str) -> String {
        assert_eq!((self.status, &self.body["code"]), (status, &json!(code)), "{}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert!(!self.header("x-request-id").is_empty());
        assert_eq!(self.body["request_id"], self.header("x-request-id"));
        crate::text(&self.body["detail"])
    }

    /// The fields that a 422 names.
    ///
    /// # Panics
    /// Where it is none.
    #[must_use]
    #[track_caller]
    pub fn faults(&self) -> Vec<String> {
        self.problem(422, "invalid");
        let faults = self.body["errors"].as_array().expect("errors");
        faults
            .iter()
            .map(|fault| {
                format!("{} {}", crate::text(&fault["field"]), crate::text(&fault["message"]))
            })
            .collect()
    }
}

enum Target {
    Router(axum::Router, Fake),
    Stack(reqwest::Client),
}

/// A token, and until when it is valid, in seconds since 1970.
struct Token {
    text: String,
    until: i64,
}

/// A caller.
pub struct Api {
    target: Target,
    tokens: Mutex<HashMap<String, Token>>,
}

/// Every HTTP function's routes, of one instance.
async fn routes(app: &App, env: &Env) -> shared::Result<axum::Router> {
    let customer = CustomerApp::new(app.clone(), env).await?;
    let operator = OperatorApp::new(app.clone(), env).await?;
    let devices = DevicesApp { customer: customer.clone(), operator: operator.clone() };
    Ok(axum::Router::new()
        .merge(allocations::routes().with_state(operator.clone()))
        .merge(billing::routes().with_state(BillingApp::new(customer, env)?))
        .merge(device_tier::routes().with_state(devices))
        .merge(operations::routes().with_state(OperationsApp::new(operator.clone(), env)?))
        .merge(operator_plans::routes().with_state(operator.clone()))
        .merge(subscriptions::routes().with_state(operator.clone()))
        .merge(tenants::routes().with_state(TenantsApp::new(operator, env)?)))
}

/// What each HTTP function's routes are documented as.
#[must_use]
pub fn documents() -> Vec<(&'static str, utoipa::openapi::OpenApi)> {
    vec![
        ("allocations", allocations::Api::openapi()),
        ("billing", billing::Api::openapi()),
        ("device-tier", device_tier::Api::openapi()),
        ("operations", operations::Api::openapi()),
        ("operator-plans", operator_plans::Api::openapi()),
        ("subscriptions", subscriptions::Api::openapi()),
        ("tenants", tenants::Api::openapi()),
    ]
}

/// The OpenAPI document, as the code has it.
#[must_use]
pub fn openapi() -> Value {
    shared::http::openapi::document(documents().into_iter().map(|(_, document)| document).collect())
}

impl World {
    /// Its HTTP functions.
    ///
    /// # Panics
    /// Where they do not start.
    pub async fn api(&self) -> Api {
        self.api_with(&self.env(&[])).await
    }

    /// The same with other settings.
    ///
    /// # Panics
    /// Where they do not start.
    pub async fn api_with(&self, env: &Env) -> Api {
        let app = App::new(env, self.clock.reader()).expect("the HTTP functions");
        let routes = routes(&app, env).await.expect("the HTTP functions");
        Api {
            target: Target::Router(shared::http::serve(routes, &app), self.keycloak.clone()),
            tokens: Mutex::default(),
        }
    }
}

const KEYCLOAK: [&str; 4] =
    ["KEYCLOAK_URL", "KEYCLOAK_REALM", "KEYCLOAK_CLIENT_ID", "KEYCLOAK_CLIENT_SECRET"];

fn keycloak_of([base_url, realm, client_id, client_secret]: &[String; 4]) -> tokens::Keycloak<'_> {
    tokens::Keycloak { base_url, realm, client_id, client_secret }
}

/// The stack's Keycloak's ID token and refresh token of an operator, who gets an access token
/// first.
///
/// # Panics
/// Where there are none.
pub async fn other_tokens() -> [String; 2] {
    let settings = KEYCLOAK.map(stack);
    let keycloak = keycloak_of(&settings);
    keycloak.token(tokens::Role::Operator).await.expect("an access token");
    keycloak.other_tokens(tokens::Role::Operator).await.expect("the others")
}

impl Api {
    /// The running stack's functions, with its Keycloak's tokens.
    ///
    /// # Panics
    /// Never, where reqwest works.
    #[must_use]
    pub fn of_stack() -> Self {
        shared::process::tls::install();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(std::time::Duration::from_secs(30))
            .build()
            .expect("a client");
        Self { target: Target::Stack(http), tokens: Mutex::default() }
    }

    async fn token(&self, who: Who<'_>) -> Option<String> {
        if let Who::Token(token) = who {
            return Some(token.to_owned());
        }
        if who == Who::Nobody {
            return None;
        }
        let mut tokens = self.tokens.lock().await;
        // The machine's time, whatever a test makes of the world's.
        let now = Clock::system().now().as_second();
        let kept = tokens.get(&format!("{who:?}"));
        if let Some(token) = kept.filter(|token| now < token.until) {
            return Some(token.text.clone());
        }
        let token = match &self.target {
            Target::Router(_, keycloak) => {
                let (roles, tenant): (&[&str], _) = match who {
                    Who::Operator => (&["operator"], None),
                    Who::Admin => (&["operator_admin"], None),
                    Who::Service => (&["service"], None),
                    Who::Customer(tenant) => (&["customer"], Some(tenant)),
                    Who::Nobody | Who::Token(_) => (&[], None),
                };
                let claims = keycloak.claims(roles, tenant);
                let until = claims["exp"].as_i64().expect("a time");
                Token { text: keycloak.sign(&claims).expect("a token"), until }
            }
            Target::Stack(_) => {
                let role = match who {
                    Who::Operator => tokens::Role::Operator,
                    Who::Service => tokens::Role::Service,
                    Who::Customer(tenant) => tokens::Role::Customer(tenant),
                    _ => tokens::Role::OperatorAdmin,
                };
                let text = keycloak_of(&KEYCLOAK.map(stack)).token(role).await.expect("a token");
                Token { text, until: i64::MAX }
            }
        };
        let text = token.text.clone();
        tokens.insert(format!("{who:?}"), token);
        Some(text)
    }

    /// `GET`.
    pub async fn get(&self, who: Who<'_>, path: &str) -> Reply {
        self.send(who, "GET", path, &[], None).await
    }

    /// Everything that a list has, read page by page: the path says what a page's size is.
    ///
    /// # Panics
    /// Where a page is none, or its `count` is not its length.
    pub async fn pages(&self, who: Who<'_>, path: &str, list: &str) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(who, &format!("{path}{cursor}")).await.expect(200);
            let rows = page[list].as_array().expect("a list");
            assert_eq!(page["count"], rows.len());
            all.extend(rows.iter().cloned());
            let Some(next) = page["next_cursor"].as_str() else { return all };
            cursor = format!("&cursor={next}");
        }
    }

    /// A write, as `operator_admin`.
    pub async fn write(&self, method: &str, path: &str, body: Value) -> Reply {
        self.send(Who::Admin, method, path, &[], Some(body)).await
    }

    /// A subscription made by an operator, as the API answers it.
    pub async fn create_subscription(&self, new: Value) -> Value {
        self.write("POST", "/api/v1/operator/subscriptions", new).await.expect(201)
    }

    /// Any request with a JSON body.
    pub async fn send(
        &self,
        who: Who<'_>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Reply {
        let json = [("content-type", "application/json")];
        let all: Vec<_> = headers
            .iter()
            .copied()
            .chain(body.is_some().then_some(json).into_iter().flatten())
            .collect();
        self.raw(who, method, path, &all, body.map(|body| body.to_string()).unwrap_or_default())
            .await
    }

    /// Any request.
    ///
    /// # Panics
    /// Where there is no answer.
    pub async fn raw(
        &self,
        who: Who<'_>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Reply {
        let token = self.token(who).await;
        let (status, headers, bytes) = match &self.target {
            Target::Router(router, ..) => {
                let mut request = Request::builder().method(method).uri(path);
                for (name, value) in headers {
                    request = request.header(*name, *value);
                }
                if let Some(token) = token {
                    request = request.header("authorization", format!("Bearer {token}"));
                }
                let mut request = request.body(Body::from(body.into())).expect("a request");
                request.extensions_mut().insert(gateway_context());
                let answer = router.clone().oneshot(request).await.expect("an answer");
                let (parts, body) = answer.into_parts();
                (
                    parts.status.as_u16(),
                    parts.headers,
                    axum::body::to_bytes(body, usize::MAX).await.expect("a body"),
                )
            }
            Target::Stack(http) => {
                let mut request = http
                    .request(
                        method.parse().expect("a method"),
                        format!("{}{path}", stack("API_URL")),
                    )
                    .body(body.into());
                for (name, value) in headers {
                    request = request.header(*name, *value);
                }
                if let Some(token) = token {
                    request = request.bearer_auth(token);
                }
                let answer = request.send().await.expect("an answer");
                (
                    answer.status().as_u16(),
                    answer.headers().clone(),
                    answer.bytes().await.expect("a body"),
                )
            }
        };
        let reply =
            Reply { status, headers, body: serde_json::from_slice(&bytes).unwrap_or_default() };
        if reply.header("content-type") == "application/problem+json" {
            let code = crate::text(&reply.body["code"]);
            assert!(CODES.contains(&code.as_str()), "{code} is not in base/codes.rs: {path}");
        }
        reply
    }
}

fn gateway_context() -> RequestContext {
    let mut context =
        lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpRequestContext::default();
    context.request_id = Some(crate::unique());
    context.http.source_ip = Some(SOURCE_IP.to_owned());
    RequestContext::ApiGatewayV2(context)
}
