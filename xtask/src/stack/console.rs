//! The web console of a stack: `console/dist` at an address of its own, with the headers and the
//! `config.json` that it needs wherever it is served (docs/console.md, "Serve it").

use std::fs;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use axum::Router;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::json;
use tokio::task::JoinSet;
use tower_http::services::ServeDir;
use tower_http::services::ServeFile;
use tower_http::set_header::SetResponseHeaderLayer;

use super::Starting;
use super::settings::Env;

/// The realm's client of the browser.
pub(crate) const WEB_CLIENT: &str = "pulse-web";

/// Where the page of this stack is.
pub(crate) fn origin(port: u16) -> String {
    format!("http://localhost:{port}")
}

/// The origins from which a page may call this stack: its console, `npm run dev`, and the address
/// that the examples of the OpenAPI document name.
pub(crate) fn origins(port: u16) -> Vec<String> {
    let mut all = vec![origin(port)];
    for other in [3000, 5173] {
        if port != other {
            all.push(origin(other));
        }
    }
    all
}

/// Serves the built pages until the stack ends. Without a build it says how to make one.
pub(super) async fn start(stack: &Starting<'_>, env: &Env, tasks: &mut JoinSet<()>) -> Result<()> {
    let config = json!({
        "api_url": env.get("API_URL")?,
        "issuer": env.get("JWT_ISSUER")?,
        "client_id": WEB_CLIENT,
        "stage": "local",
        "version": "local",
    });
    let folder = stack.state.join("console");
    fs::create_dir_all(&folder)?;
    // `npm run dev` reads it.
    fs::write(folder.join("config.json"), format!("{config:#}\n"))?;
    let policy = policy(&[env.get("API_URL")?, env.get("KEYCLOAK_URL")?]);
    let router = router(&stack.root.join("console/dist"), config.to_string(), &policy)?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", stack.ports.console))
        .await
        .context("the console's port")?;
    tasks.spawn(async move {
        // Ends with the stack; a failure shows as a page that does not open.
        drop(axum::serve(listener, router).await);
    });
    Ok(())
}

/// Nothing but its own files, the API and the issuer; no inline code, and no HTML from strings.
fn policy(connect: &[&str]) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src \
         'self'; connect-src 'self' {}; form-action 'self'; base-uri 'none'; frame-ancestors \
         'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        connect.join(" ")
    )
}

fn router(dist: &Path, config: String, policy: &str) -> Result<Router> {
    let index = dist.join("index.html");
    // A path without a file is a page of the router in it; a missing file stays one.
    let files = ServeDir::new(dist).fallback(ServeFile::new(index));
    let assets = ServeDir::new(dist.join("assets"));
    let lasting = SetResponseHeaderLayer::overriding(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=31536000, immutable"),
    );
    let answer = move || {
        let config = config.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], config).into_response() }
    };
    let mut router = Router::new()
        .route("/config.json", get(answer))
        .nest_service("/assets", Router::new().fallback_service(assets).layer(lasting))
        .fallback_service(files)
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache"),
        ));
    for (name, value) in [
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ] {
        let name = HeaderName::from_static(name);
        let value = HeaderValue::from_str(value).context("a header of the console")?;
        router = router.layer(SetResponseHeaderLayer::overriding(name, value));
    }
    Ok(router)
}
