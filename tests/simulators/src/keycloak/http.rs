//! The OIDC endpoints and the admin REST API.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use lettre::AsyncSmtpTransport;
use lettre::AsyncTransport as _;
use lettre::Message;
use lettre::Tokio1Executor;
use lettre::message::Body;
use lettre::message::header::ContentTransferEncoding;
use lettre::message::header::ContentType;
use serde_json::Value;
use serde_json::json;

use super::COMPOSITES;
use super::Core;
use super::Link;
use super::PUBLIC_CLIENT;
use super::Realm;
use super::User;
use super::browser;
use super::organizations;
use super::pages;
use super::token;
use super::uuid;
use crate::server::lock;
use crate::server::now;
use crate::server::pairs;

pub(super) fn router(core: Arc<Core>) -> Router {
    Router::new().fallback(handle).with_state(core)
}

/// An error response: status and body.
pub(super) type ErrorResponse = (StatusCode, Value);
pub(super) type Result<T> = std::result::Result<T, ErrorResponse>;

pub(super) fn oidc_error(status: StatusCode, error: &str, description: &str) -> ErrorResponse {
    (status, json!({ "error": error, "error_description": description }))
}

pub(super) fn admin_error(status: StatusCode, message: &str) -> ErrorResponse {
    (status, json!({ "errorMessage": message }))
}

pub(super) fn not_found(error: &str) -> ErrorResponse {
    (StatusCode::NOT_FOUND, json!({ "error": error }))
}

pub(super) fn ok(value: &Value) -> Response {
    json_response(StatusCode::OK, value)
}

fn json_response(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// Returns an injected fault in Keycloak's error format.
pub(super) fn fault(status: StatusCode) -> Response {
    let error = match status {
        StatusCode::UNAUTHORIZED => "HTTP 401 Unauthorized",
        _ => "unknown_error",
    };
    json_response(status, &json!({ "error": error }))
}

async fn handle(
    State(core): State<Arc<Core>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let segments: Vec<&str> = uri.path().split('/').skip(1).collect();
    let realm = core.options.realm.as_str();
    let query = pairs(uri.query().unwrap_or_default());
    let result = match segments.as_slice() {
        ["realms", name, rest @ ..] if *name == realm => {
            public_endpoint(&core, &method, rest, &query, &headers, &body)
        }
        ["realms", ..] => Err(not_found("Realm does not exist")),
        ["admin", "realms", rest @ ..] => {
            admin_endpoint(&core, &method, rest, &query, &headers, &body).await
        }
        _ => Err(not_found("HTTP 404 Not Found")),
    };
    let mut response = result.unwrap_or_else(|(status, body)| json_response(status, &body));
    browser::allow(&core, &headers, &mut response);
    response
}

pub(super) fn field<'p>(pairs: &'p [(String, String)], name: &str) -> &'p str {
    pairs.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}

fn public_endpoint(
    core: &Core,
    method: &Method,
    path: &[&str],
    query: &[(String, String)],
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response> {
    let form = || pairs(str::from_utf8(body).unwrap_or_default());
    match (method.as_str(), path) {
        ("GET", [".well-known", "openid-configuration"]) => Ok(ok(&discovery(core))),
        ("GET", ["protocol", "openid-connect", "certs"]) => Ok(ok(&lock(&core.keys).jwks())),
        ("POST", ["protocol", "openid-connect", "token"]) => grant(core, headers, &form()),
        ("GET" | "POST", ["protocol", "openid-connect", "auth"]) => {
            Ok(browser::authorize(core, method, query, headers, &form()))
        }
        ("GET", ["protocol", "openid-connect", "logout"]) => {
            Ok(browser::log_out(core, query, headers))
        }
        ("GET", ["login-actions", "action-token"]) => Ok(pages::action_token(core, query)),
        ("POST", ["login-actions", "required-action"]) => {
            Ok(pages::required_action(core, query, &form()))
        }
        _ => Err(not_found("HTTP 404 Not Found")),
    }
}

fn discovery(core: &Core) -> Value {
    let issuer = core.issuer();
    let endpoint = |name: &str| format!("{issuer}/protocol/openid-connect/{name}");
    json!({
        "issuer": issuer, "authorization_endpoint": endpoint("auth"), "token_endpoint": endpoint(
            "token"),
        "jwks_uri": endpoint("certs"), "userinfo_endpoint": endpoint("userinfo"),
        "end_session_endpoint": endpoint("logout"),
        "grant_types_supported": [
            "authorization_code", "client_credentials", "password", "refresh_token"
        ],
        "code_challenge_methods_supported": ["S256"],
        "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    })
}

fn grant(core: &Core, headers: &HeaderMap, form: &[(String, String)]) -> Result<Response> {
    let invalid = |error| {
        oidc_error(StatusCode::UNAUTHORIZED, error, "Invalid client or Invalid client credentials")
    };
    let basic_header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let client = field(form, "client_id");
    if client == browser::WEB_CLIENT {
        return browser::grant(core, form);
    }
    let backend = client == core.options.client_id || basic_header.is_some();
    let authenticated = match basic_header {
        Some(value) => value == core.basic,
        None => field(form, "client_secret") == core.options.client_secret,
    };
    let access_token = match (field(form, "grant_type"), backend) {
        (_, false) if client != PUBLIC_CLIENT => return Err(invalid("invalid_client")),
        (_, true) if !authenticated => return Err(invalid("unauthorized_client")),
        ("client_credentials", true) => token::for_service(core),
        ("client_credentials", false) => {
            let description = "Public client not allowed to retrieve service account";
            return Err(oidc_error(StatusCode::UNAUTHORIZED, "unauthorized_client", description));
        }
        ("password", false) => token::for_user(core, &log_in(core, form)?),
        ("password", true) => {
            let description = "Client not allowed for direct access grants";
            return Err(oidc_error(StatusCode::BAD_REQUEST, "unauthorized_client", description));
        }
        _ => {
            return Err(oidc_error(
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "Unsupported grant_type",
            ));
        }
    };
    let access_token = access_token.map_err(|error| {
        (StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": error.to_string() }))
    })?;
    Ok(ok(&json!({
        "access_token": access_token, "expires_in": token::LIFESPAN, "refresh_expires_in": 0,
        "token_type": "Bearer",
        "not-before-policy": 0, "scope": "email profile",
    })))
}

pub(super) fn log_in(core: &Core, form: &[(String, String)]) -> Result<User> {
    let name = field(form, "username").to_lowercase();
    let Realm { users, failures, .. } = &mut *lock(&core.realm);
    let user =
        users.iter().find(|user| user.username == name || user.email.as_ref() == Some(&name));
    let refuse =
        |description| Err(oidc_error(StatusCode::BAD_REQUEST, "invalid_grant", description));
    let Some(user) = user else {
        return refuse("Invalid user credentials");
    };
    match &user.password {
        Some(password) if password != field(form, "password") => {
            *failures.entry(user.id.clone()).or_default() += 1;
            refuse("Invalid user credentials")
        }
        _ if !user.enabled => refuse("Account disabled"),
        Some(_) if user.required_actions.is_empty() => {
            failures.remove(&user.id);
            Ok(user.clone())
        }
        _ => refuse("Account is not fully set up"),
    }
}

/// Checks that the caller is the backend's service account. Only it may call the admin API.
fn authorize(core: &Core, headers: &HeaderMap) -> Result<()> {
    let refuse = |status: StatusCode| (status, json!({ "error": format!("HTTP {status}") }));
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let claims = bearer
        .and_then(|token| lock(&core.keys).verify(token))
        .filter(|claims| claims["iss"] == core.issuer());
    match claims {
        None => Err(refuse(StatusCode::UNAUTHORIZED)),
        Some(claims) if claims["azp"] != core.options.client_id => {
            Err(refuse(StatusCode::FORBIDDEN))
        }
        Some(_) => Ok(()),
    }
}

async fn admin_endpoint(
    core: &Core,
    method: &Method,
    path: &[&str],
    query: &[(String, String)],
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response> {
    authorize(core, headers)?;
    let &[realm, ref path @ ..] = path else {
        return Err(not_found("HTTP 404 Not Found"));
    };
    if realm != core.options.realm {
        return Err(not_found("Realm not found."));
    }
    let body = || {
        serde_json::from_slice::<Value>(body)
            .map_err(|_| (StatusCode::BAD_REQUEST, json!({ "error": "unknown_error" })))
    };
    match (method.as_str(), path) {
        ("POST", ["users"]) => create_user(core, &body()?),
        ("GET", ["users"]) => Ok(ok(&search(&lock(&core.realm), query))),
        ("GET", ["users", id]) => Ok(ok(&representation(find(&mut lock(&core.realm), id)?))),
        ("PUT", ["users", id]) => update_user(core, id, &body()?),
        ("DELETE", ["users", id]) => {
            let mut realm = lock(&core.realm);
            find(&mut realm, id)?;
            realm.users.retain(|user| user.id != *id);
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        ("PUT", ["users", id, "reset-password"]) => reset_password(core, id, &body()?),
        ("GET", ["attack-detection", "brute-force", "users", id]) => {
            Ok(ok(&json!({ "numFailures": lock(&core.realm).failures.get(*id).unwrap_or(&0),
                "disabled": false })))
        }
        ("DELETE", ["attack-detection", "brute-force", "users", id]) => {
            lock(&core.realm).failures.remove(*id);
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        ("PUT", ["users", id, "execute-actions-email"]) => {
            actions_email(core, id, query, &body()?).await
        }
        (_, ["organizations", rest @ ..]) => {
            organizations::endpoint(core, method, rest, query, body)
        }
        ("GET", ["users", id, "role-mappings", "realm"]) => roles(core, id, true),
        ("GET", ["users", id, "role-mappings", "realm", "available"]) => roles(core, id, false),
        ("POST", ["users", id, "role-mappings", "realm"]) => add_roles(core, id, &body()?),
        _ => Err(not_found("HTTP 404 Not Found")),
    }
}

fn find<'r>(realm: &'r mut Realm, id: &str) -> Result<&'r mut User> {
    realm.users.iter_mut().find(|user| user.id == id).ok_or_else(|| not_found("User not found"))
}

pub(super) fn representation(user: &User) -> Value {
    let mut json = json!({
        "id": user.id, "username": user.username, "enabled": user.enabled,
        "emailVerified": user.email_verified, "createdTimestamp": user.created,
        "totp": false, "requiredActions": user.required_actions, "disableableCredentialTypes": [],
        "notBefore": 0,
    });
    let optional =
        [("email", &user.email), ("firstName", &user.first_name), ("lastName", &user.last_name)];
    for (key, value) in optional {
        if let Some(value) = value {
            json[key] = json!(value);
        }
    }
    if !user.attributes.is_empty() {
        json["attributes"] = json!(user.attributes);
    }
    json
}

/// Copies the fields of a representation to the user. With `attributes`, a representation is the
/// whole profile: profile fields that it omits are cleared.
fn apply_representation(user: &mut User, input: &Value) -> Result<()> {
    let text = |key: &str| input[key].as_str().filter(|value| !value.is_empty()).map(str::to_owned);
    let whole = input["attributes"].is_object();
    if let Some(username) = text("username") {
        user.username = username.to_lowercase();
    }
    if whole || input["email"].is_string() {
        user.email = text("email").map(|email| email.to_lowercase());
    }
    if whole || input["firstName"].is_string() {
        user.first_name = text("firstName");
    }
    if whole || input["lastName"].is_string() {
        user.last_name = text("lastName");
    }
    check_profile(user)?;
    if let Some(attributes) = input["attributes"].as_object() {
        let texts = |value: &Value| match value {
            Value::Array(values) => {
                values.iter().filter_map(|value| Some(value.as_str()?.to_owned())).collect()
            }
            value => value.as_str().map(str::to_owned).into_iter().collect(),
        };
        let declared = attributes.iter().filter(|(key, _)| *key == "tenant_id");
        user.attributes = declared
            .map(|(key, value)| (key.clone(), texts(value)))
            .collect::<BTreeMap<_, Vec<_>>>();
    }
    user.enabled = input["enabled"].as_bool().unwrap_or(user.enabled);
    user.email_verified = input["emailVerified"].as_bool().unwrap_or(user.email_verified);
    if let Some(actions) = input["requiredActions"].as_array() {
        user.required_actions =
            actions.iter().filter_map(|action| Some(action.as_str()?.to_owned())).collect();
    }
    for credential in input["credentials"].as_array().into_iter().flatten() {
        user.password = credential["value"].as_str().map(str::to_owned);
        if credential["temporary"] == true {
            user.required_actions.insert("UPDATE_PASSWORD".to_owned());
        }
    }
    Ok(())
}

/// Refuses what the realm's user profile does: all faults at once, one in the body itself.
fn check_profile(user: &User) -> Result<()> {
    const NAMES: &str = "<>&\"$%!#?§;*~/\\|^=[]{}()";
    let username = |c: char| c.is_whitespace() || "',:`".contains(c) || NAMES.contains(c);
    let mut faults = Vec::new();
    let mut fault = |field: &str, message: &str| {
        faults.push(json!({ "field": field, "errorMessage": message, "params": [field] }));
    };
    let email = user.email.as_deref().unwrap_or("x@x");
    if email.parse::<lettre::Address>().is_err() {
        fault("email", "error-invalid-email");
    }
    if user.username.contains(username) || user.username.chars().any(|c| c > '\u{24f}') {
        fault("username", "error-username-invalid-character");
    }
    for (field, name) in [("firstName", &user.first_name), ("lastName", &user.last_name)] {
        let name = name.as_deref().unwrap_or_default();
        if name.chars().any(|c| c.is_control() || NAMES.contains(c)) {
            fault(field, "error-person-name-invalid-character");
        } else if name.chars().count() > 255 {
            fault(field, "error-invalid-length-too-long");
        }
    }
    match faults.len() {
        0 => Ok(()),
        1 => Err((StatusCode::BAD_REQUEST, faults.remove(0))),
        _ => Err((StatusCode::BAD_REQUEST, json!({ "errors": faults }))),
    }
}

fn check_unique(realm: &Realm, user: &User) -> Result<()> {
    let mut others = realm.users.iter().filter(|other| other.id != user.id);
    let same = others.find_map(|other| match other {
        other if other.username == user.username => Some("username"),
        other if other.email.is_some() && other.email == user.email => Some("email"),
        _ => None,
    });
    let conflict =
        |what| admin_error(StatusCode::CONFLICT, &format!("User exists with same {what}"));
    same.map_or(Ok(()), |what| Err(conflict(what)))
}

fn create_user(core: &Core, input: &Value) -> Result<Response> {
    let mut user = User { id: uuid(), created: now().as_millisecond(), ..User::default() };
    apply_representation(&mut user, input)?;
    if user.username.is_empty() {
        return Err(admin_error(StatusCode::BAD_REQUEST, "User name is missing"));
    }
    let mut realm = lock(&core.realm);
    if realm.refuses_names && user.first_name.is_some() {
        let body = json!({ "field": "firstName", "errorMessage": "error-pattern-no-match" });
        return Err((StatusCode::BAD_REQUEST, body));
    }
    check_unique(&realm, &user)?;
    let location =
        format!("{}/admin/realms/{}/users/{}", core.base_url, core.options.realm, user.id);
    realm.users.push(user);
    Ok((StatusCode::CREATED, [(HeaderName::from_static("location"), location)]).into_response())
}

fn update_user(core: &Core, id: &str, input: &Value) -> Result<Response> {
    let mut realm = lock(&core.realm);
    let mut changed = find(&mut realm, id)?.clone();
    apply_representation(&mut changed, input)?;
    check_unique(&realm, &changed)?;
    *find(&mut realm, id)? = changed;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn reset_password(core: &Core, id: &str, credential: &Value) -> Result<Response> {
    let mut realm = lock(&core.realm);
    let user = find(&mut realm, id)?;
    if credential["value"].as_str().is_none_or(str::is_empty) {
        return Err((StatusCode::BAD_REQUEST, json!({ "error": "No password provided" })));
    }
    user.required_actions.remove("UPDATE_PASSWORD");
    apply_representation(user, &json!({ "credentials": [credential] }))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn search(realm: &Realm, query: &[(String, String)]) -> Value {
    let exact = field(query, "exact") == "true";
    let matches = |wanted: &str, value: &str| {
        let wanted = wanted.to_lowercase();
        wanted.is_empty() || if exact { value == wanted } else { value.contains(&wanted) }
    };
    let wanted: Vec<(&str, &str)> =
        field(query, "q").split_whitespace().filter_map(|term| term.split_once(':')).collect();
    let has = |user: &User, name: &str, value: &str| {
        user.attributes
            .get(name)
            .is_some_and(|values| values.iter().any(|v| v.eq_ignore_ascii_case(value)))
    };
    let users = realm.users.iter().filter(|user| {
        let email = user.email.as_deref().unwrap_or_default();
        matches(field(query, "email"), email)
            && matches(field(query, "username"), &user.username)
            && wanted.iter().all(|(name, value)| has(user, name, value))
    });
    let mut users: Vec<&User> = users.collect();
    users.sort_by_key(|user| &user.username);
    let first = field(query, "first").parse().unwrap_or(0);
    let max = field(query, "max").parse().unwrap_or(100);
    users.into_iter().skip(first).take(max).map(representation).collect()
}

fn roles(core: &Core, id: &str, assigned: bool) -> Result<Response> {
    let mut realm = lock(&core.realm);
    let user = find(&mut realm, id)?;
    let of_user = core.roles.iter().filter(|(name, _)| user.roles.contains(*name) == assigned);
    let roles = of_user.map(|(name, id)| {
        let composite = COMPOSITES.iter().any(|(role, _)| role == name);
        json!({ "id": id, "name": name, "composite": composite, "clientRole": false,
            "containerId": core.options.realm })
    });
    Ok(ok(&roles.collect()))
}

fn add_roles(core: &Core, id: &str, input: &Value) -> Result<Response> {
    let mut realm = lock(&core.realm);
    let user = find(&mut realm, id)?;
    let mut added = BTreeSet::new();
    for role in input.as_array().into_iter().flatten() {
        // Keycloak requires that both the name and the id match.
        let known = core.roles.iter().any(|(name, id)| role["name"] == *name && role["id"] == *id);
        let name =
            role["name"].as_str().filter(|_| known).ok_or_else(|| not_found("Role not found"))?;
        added.insert(name.to_owned());
    }
    user.roles.extend(added);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn actions_email(
    core: &Core,
    id: &str,
    query: &[(String, String)],
    actions: &Value,
) -> Result<Response> {
    let lifespan = field(query, "lifespan").parse().unwrap_or(43_200);
    let user = find(&mut lock(&core.realm), id)?.clone();
    let Some(email) = user.email else {
        return Err(admin_error(StatusCode::BAD_REQUEST, "User email missing"));
    };
    if !user.enabled {
        return Err(admin_error(StatusCode::BAD_REQUEST, "User is disabled"));
    }
    if actions
        .as_array()
        .is_none_or(|actions| actions.iter().any(|action| action != "UPDATE_PASSWORD"))
    {
        return Err(admin_error(StatusCode::BAD_REQUEST, "Provided invalid required actions"));
    }
    let key = uuid();
    let link = format!("{}/login-actions/action-token?key={key}", core.issuer());
    if let Some(smtp) = core.options.smtp
        && send(smtp, &email, &link, lifespan).await.is_err()
    {
        let message = "Failed to send execute actions email";
        return Err(admin_error(StatusCode::INTERNAL_SERVER_ERROR, message));
    }
    let mut realm = lock(&core.realm);
    let expires = now().as_second() + lifespan;
    realm.links.insert(key, Link { user_id: id.to_owned(), expires });
    let user = find(&mut realm, id)?;
    user.mails_sent += 1;
    user.last_link = Some(link);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn send(smtp: SocketAddr, to: &str, link: &str, lifespan: i64) -> anyhow::Result<()> {
    let text = format!(
        "Your administrator asks you to update your account: set a password.\n\nFollow this link \
         to begin:\n\n{link}\n\n\
         It works for {} minutes.\n",
        lifespan / 60
    );
    // The default encoding would break the link over two lines.
    let body = Body::dangerous_pre_encoded(
        text.replace('\n', "\r\n").into_bytes(),
        ContentTransferEncoding::SevenBit,
    );
    let mail = Message::builder()
        .from("Pulse <no-reply@pulse.test>".parse()?)
        .to(to.parse()?)
        .subject("Update your account")
        .header(ContentType::TEXT_PLAIN)
        .body(body)?;
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(smtp.ip().to_string())
        .port(smtp.port())
        .timeout(Some(Duration::from_secs(5)))
        .build();
    transport.send(mail).await?;
    Ok(())
}
