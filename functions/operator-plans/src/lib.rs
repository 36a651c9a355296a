//! The catalogue, for operators: plans, the slots that they bring, and device tiers
//! (docs/catalogue.md).
//!
//! One endpoint per file: it extracts, calls one operation of `shared`, and answers.

mod device_tiers;
mod plans;

use axum::Router;
use axum::routing::get;
use shared::http::app::OperatorApp;
use utoipa::OpenApi;

/// Every route of this function.
pub fn routes() -> Router<OperatorApp> {
    Router::new()
        .route("/api/v1/operator/plans", get(plans::list::list).post(plans::create::create))
        .route("/api/v1/operator/plans/{plan_id}", get(plans::get::get).put(plans::update::update))
        .route(
            "/api/v1/operator/plans/{plan_id}/tier-defaults",
            get(plans::get_tier_defaults::get).put(plans::set_tier_defaults::set),
        )
        .route(
            "/api/v1/operator/device-tiers",
            get(device_tiers::list::list).post(device_tiers::create::create),
        )
        .route(
            "/api/v1/operator/device-tiers/{tier_id}",
            get(device_tiers::get::get).put(device_tiers::update::update),
        )
}

/// The OpenAPI document of these routes.
#[derive(OpenApi)]
#[openapi(paths(
    plans::list::list,
    plans::create::create,
    plans::get::get,
    plans::update::update,
    plans::get_tier_defaults::get,
    plans::set_tier_defaults::set,
    device_tiers::list::list,
    device_tiers::create::create,
    device_tiers::get::get,
    device_tiers::update::update
))]
pub struct Api;
