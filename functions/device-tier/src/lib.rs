//! device-tier.

use axum::Router;
use shared::app::App;
use utoipa::OpenApi;

/// Every route of this function.
pub fn routes() -> Router<App> {
    Router::new()
}

/// What they are documented as.
#[derive(OpenApi)]
#[openapi(paths())]
pub struct Api;
