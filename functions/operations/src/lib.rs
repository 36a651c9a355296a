//! What operators look at and act on when something is wrong (docs/operations.md), and what monitors and tools ask.

mod audit;
mod health;
mod openapi;

use axum::Router;
use axum::routing::get;
use shared::app::App;
use utoipa::OpenApi;

/// Every route of this function.
pub fn routes() -> Router<App> {
    Router::new().route("/health", get(health::health)).route("/openapi.json", get(openapi::openapi)).route("/api/v1/operator/audit", get(audit::list))
}

/// What they are documented as.
#[derive(OpenApi)]
#[openapi(paths(health::health, openapi::openapi, audit::list))]
pub struct Api;
