//! What a customer's company has and may use, and its profile (docs/billing.md).

mod check;
mod entitlements;
mod get_organization;
mod update_organization;

use axum::Router;
use axum::routing::{get, post};
use shared::app::App;
use utoipa::OpenApi;

/// Every route of this function.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/customer/entitlements", get(entitlements::entitlements))
        .route("/api/v1/customer/entitlements/check", post(check::check))
        .route("/api/v1/customer/organization", get(get_organization::get).put(update_organization::update))
}

/// What they are documented as.
#[derive(OpenApi)]
#[openapi(paths(entitlements::entitlements, check::check, get_organization::get, update_organization::update))]
pub struct Api;
