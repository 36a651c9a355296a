//! The pages behind a mailed link: proceed, new password, done. A client that works with
//! Keycloak's real pages works here too.

use axum::http::StatusCode;
use axum::response::Html;
use axum::response::IntoResponse as _;
use axum::response::Response;

use super::Core;
use crate::server::escape;
use crate::server::lock;
use crate::server::now;

fn field<'p>(pairs: &'p [(String, String)], name: &str) -> &'p str {
    pairs.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}

pub(super) fn page(status: StatusCode, content: &str) -> Response {
    (status, Html(format!("<!doctype html><title>Keycloak (fake)</title><h1>Pulse</h1>{content}")))
        .into_response()
}

/// Returns the user of a link that was not used and has not expired.
fn user_of(core: &Core, key: &str) -> Option<String> {
    let now = now().as_second();
    let realm = lock(&core.realm);
    realm.links.get(key).filter(|link| link.expires > now).map(|link| link.user_id.clone())
}

fn expired() -> Response {
    page(StatusCode::BAD_REQUEST, "<p>Action expired. Please continue with login now.</p>")
}

/// Serves the mailed link and the link that its page shows. Only the second one opens the form, so
/// that a mail scanner triggers nothing.
pub(super) fn action_token(core: &Core, query: &[(String, String)]) -> Response {
    let key = field(query, "key");
    if user_of(core, key).is_none() {
        return expired();
    }
    if field(query, "execution").is_empty() {
        let url = format!(
            "{}/login-actions/action-token?key={key}&execution=proceed&client_id=account",
            core.issuer()
        );
        let content = format!(
            "<p>Perform the following action(s): <b>Update Password</b></p>\
             <p><a href=\"{}\">&raquo; Click here to proceed</a></p>",
            escape(&url)
        );
        return page(StatusCode::OK, &content);
    }
    form(core, key, StatusCode::OK, "")
}

fn form(core: &Core, key: &str, status: StatusCode, message: &str) -> Response {
    let url = format!(
        "{}/login-actions/required-action?session_code={key}&execution=UPDATE_PASSWORD\
         &client_id=account",
        core.issuer()
    );
    let content = format!(
        "<p>{message}</p><form id=\"kc-passwd-update-form\" action=\"{}\" method=\"post\">\
         <input type=\"password\" name=\"password-new\"><input type=\"password\" \
         name=\"password-confirm\">\
         <input type=\"submit\" value=\"Submit\"></form>",
        escape(&url)
    );
    page(status, &content)
}

/// Sets the password and invalidates the link.
pub(super) fn required_action(
    core: &Core,
    query: &[(String, String)],
    input: &[(String, String)],
) -> Response {
    let key = field(query, "session_code");
    let Some(user_id) = user_of(core, key) else {
        return expired();
    };
    let password = field(input, "password-new");
    if password.is_empty() {
        return form(core, key, StatusCode::OK, "Please specify password.");
    }
    if password != field(input, "password-confirm") {
        return form(core, key, StatusCode::OK, "Passwords don't match.");
    }
    let mut realm = lock(&core.realm);
    realm.links.remove(key);
    if let Some(user) = realm.users.iter_mut().find(|user| user.id == user_id) {
        user.password = Some(password.to_owned());
        user.required_actions.remove("UPDATE_PASSWORD");
        user.email_verified = true;
    }
    page(StatusCode::OK, "<p>Your account has been updated.</p>")
}
