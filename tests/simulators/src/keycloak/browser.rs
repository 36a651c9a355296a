//! The log-in of a browser: authorization code with PKCE, refresh tokens, a session in a cookie,
//! and logout. The form has the names of Keycloak's own, so that who fills in one fills in both.

use aws_lc_rs::digest::SHA256;
use aws_lc_rs::digest::digest;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use super::Core;
use super::User;
use super::http::Result;
use super::http::field;
use super::http::log_in;
use super::http::oidc_error;
use super::http::ok;
use super::pages::page;
use super::token;
use super::uuid;
use crate::server::escape;
use crate::server::lock;

/// The id of the browser's client.
pub const WEB_CLIENT: &str = "pulse-web";

const COOKIE: &str = "KEYCLOAK_IDENTITY";

/// A code that was not exchanged yet.
pub(super) struct Code {
    user_id: String,
    session: String,
    redirect_uri: String,
    challenge: String,
    nonce: String,
}

/// Lets pages of the allowed origins read an answer.
pub(super) fn allow(core: &Core, headers: &HeaderMap, response: &mut Response) {
    let Some(origin) = headers.get(header::ORIGIN) else { return };
    if core.options.origins.iter().any(|allowed| origin == allowed.as_str()) {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

/// The log-in page and its form; whoever has a session gets a code at once.
pub(super) fn authorize(
    core: &Core,
    method: &Method,
    query: &[(String, String)],
    headers: &HeaderMap,
    form: &[(String, String)],
) -> Response {
    let redirect_uri = field(query, "redirect_uri");
    if field(query, "client_id") != WEB_CLIENT {
        return page(StatusCode::BAD_REQUEST, "<p>Client not found.</p>");
    }
    if !core.options.origins.iter().any(|origin| redirect_uri == format!("{origin}/")) {
        return page(StatusCode::BAD_REQUEST, "<p>Invalid parameter: redirect_uri</p>");
    }
    if field(query, "response_type") != "code" || field(query, "code_challenge_method") != "S256" {
        return page(StatusCode::BAD_REQUEST, "<p>Missing parameter: code_challenge_method</p>");
    }
    if method == Method::POST {
        return match log_in(core, form) {
            Ok(user) => {
                let session = uuid();
                lock(&core.realm).sessions.insert(session.clone(), user.id.clone());
                let mut response = grant_code(core, query, &user.id, &session);
                let cookie = format!("{COOKIE}={session}; Path=/; HttpOnly; SameSite=Lax");
                if let Ok(cookie) = cookie.parse() {
                    response.headers_mut().insert(header::SET_COOKIE, cookie);
                }
                response
            }
            Err((_, refusal)) => {
                log_in_page(query, refusal["error_description"].as_str().unwrap_or_default())
            }
        };
    }
    let known = session(headers).and_then(|session| {
        let user = lock(&core.realm).sessions.get(session).cloned();
        user.map(|user| (session, user))
    });
    match known {
        Some((session, user)) if field(query, "prompt") != "login" => {
            grant_code(core, query, &user, session)
        }
        _ => log_in_page(query, ""),
    }
}

fn log_in_page(query: &[(String, String)], message: &str) -> Response {
    let encoded: Vec<String> = query.iter().map(|(key, value)| escape_pair(key, value)).collect();
    page(
        StatusCode::OK,
        &format!(
            "<h2>Sign in to your account</h2><p id=\"input-error\">{}</p>\
             <form id=\"kc-form-login\" method=\"post\" action=\"?{}\">\
             <p><label for=\"username\">Email</label> <input id=\"username\" name=\"username\">\
             <p><label for=\"password\">Password</label> \
             <input id=\"password\" name=\"password\" type=\"password\">\
             <p><button id=\"kc-login\" name=\"login\">Sign In</button></form>",
            escape(message),
            escape(&encoded.join("&"))
        ),
    )
}

fn escape_pair(key: &str, value: &str) -> String {
    let mut url = reqwest::Url::parse("http://localhost/").expect("a constant URL");
    url.query_pairs_mut().append_pair(key, value);
    url.query().unwrap_or_default().to_owned()
}

fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    cookies.split("; ").find_map(|cookie| cookie.strip_prefix(COOKIE)?.strip_prefix('='))
}

fn grant_code(core: &Core, query: &[(String, String)], user_id: &str, session: &str) -> Response {
    let once = uuid();
    let redirect_uri = field(query, "redirect_uri");
    lock(&core.realm).codes.insert(
        once.clone(),
        Code {
            user_id: user_id.to_owned(),
            session: session.to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            challenge: field(query, "code_challenge").to_owned(),
            nonce: field(query, "nonce").to_owned(),
        },
    );
    let state = escape_pair("state", field(query, "state"));
    let to = format!("{redirect_uri}?{state}&code={once}");
    (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
}

/// The grants of the browser's client: a code with its verifier, or a refresh token.
pub(super) fn grant(core: &Core, form: &[(String, String)]) -> Result<Response> {
    let refuse =
        |description| Err(oidc_error(StatusCode::BAD_REQUEST, "invalid_grant", description));
    let (user_id, session, nonce) = match field(form, "grant_type") {
        "authorization_code" => {
            let Some(granted) = lock(&core.realm).codes.remove(field(form, "code")) else {
                return refuse("Code not valid");
            };
            let hash = digest(&SHA256, field(form, "code_verifier").as_bytes());
            if BASE64_URL_SAFE_NO_PAD.encode(hash) != granted.challenge {
                return refuse("PKCE verification failed: Code mismatch");
            }
            if granted.redirect_uri != field(form, "redirect_uri") {
                return refuse("Incorrect redirect_uri");
            }
            (granted.user_id, granted.session, granted.nonce)
        }
        "refresh_token" => {
            let session = field(form, "refresh_token").to_owned();
            let Some(user) = lock(&core.realm).sessions.get(&session).cloned() else {
                return refuse("Session not active");
            };
            (user, session, String::new())
        }
        _ => {
            return Err(oidc_error(
                StatusCode::BAD_REQUEST,
                "unauthorized_client",
                "Client not allowed for direct access grants",
            ));
        }
    };
    let user = lock(&core.realm).users.iter().find(|user| user.id == user_id).cloned();
    let Some(user) = user.filter(|user| user.enabled) else {
        return refuse("User disabled");
    };
    let sign = |claims: &Value| {
        lock(&core.keys).sign(claims).map_err(|error| {
            (StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": error.to_string() }))
        })
    };
    let mut access = token::claims_of_user(core, &user);
    access["azp"] = json!(WEB_CLIENT);
    let identity = identity(&access, &user, &nonce);
    Ok(ok(&json!({
        "access_token": sign(&access)?, "id_token": sign(&identity)?, "refresh_token": session,
        "expires_in": token::LIFESPAN, "token_type": "Bearer", "scope": "openid email profile",
    })))
}

/// The claims of an ID token: who logged in, and no role or tenant.
fn identity(access: &Value, user: &User, nonce: &str) -> Value {
    let mut claims = json!({
        "iss": access["iss"], "sub": user.id, "aud": WEB_CLIENT, "azp": WEB_CLIENT, "typ": "ID",
        "iat": access["iat"], "exp": access["exp"], "email": user.email,
        "preferred_username": user.username,
    });
    if !nonce.is_empty() {
        claims["nonce"] = json!(nonce);
    }
    claims
}

/// Ends the session of the cookie, and with it its refresh token.
pub(super) fn log_out(core: &Core, query: &[(String, String)], headers: &HeaderMap) -> Response {
    if let Some(session) = session(headers) {
        lock(&core.realm).sessions.remove(session);
    }
    let to = field(query, "post_logout_redirect_uri");
    if core.options.origins.iter().any(|origin| to == format!("{origin}/signed-out")) {
        return (StatusCode::FOUND, [(header::LOCATION, to)]).into_response();
    }
    page(StatusCode::OK, "<p>You are logged out</p>")
}
