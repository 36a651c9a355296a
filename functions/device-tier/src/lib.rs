//! Devices, their tiers and their subscriptions (docs/subscriptions.md, "Devices").

mod operator;

use axum::Router;
use axum::routing::{get, post, put};
use shared::app::App;
use utoipa::OpenApi;

/// Every route of this function.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/operator/devices", get(operator::list::list).post(operator::register::register))
        .route("/api/v1/operator/devices/tier", put(operator::override_tier::override_tier))
        .route("/api/v1/operator/devices/{device_id}/subscription", post(operator::move_device::move_device))
}

/// What they are documented as.
#[derive(OpenApi)]
#[openapi(paths(operator::list::list, operator::register::register, operator::override_tier::override_tier, operator::move_device::move_device))]
pub struct Api;
