//! Devices, their tiers and their subscriptions (docs/subscriptions.md, "Devices").

mod app;
mod customer;
mod operator;
mod service;

use axum::Router;
use axum::routing::{get, post, put};
use utoipa::OpenApi;

pub use self::app::DevicesApp;

/// Every route of this function.
pub fn routes() -> Router<DevicesApp> {
    Router::new()
        .route("/api/v1/customer/device-tiers", get(customer::list_tiers::list_tiers))
        .route(
            "/api/v1/customer/devices",
            get(customer::list::list).post(customer::register::register),
        )
        .route(
            "/api/v1/customer/devices/tier-assignments",
            post(customer::assign_many::assign_many),
        )
        .route(
            "/api/v1/customer/devices/{device_id}",
            get(customer::get::get)
                .patch(customer::update::update)
                .delete(customer::decommission::decommission),
        )
        .route(
            "/api/v1/customer/devices/{device_id}/tier",
            put(customer::assign_tier::assign_tier).delete(customer::remove_tier::remove_tier),
        )
        .route(
            "/api/v1/customer/devices/{device_id}/subscription",
            post(customer::move_device::move_device),
        )
        .route(
            "/api/v1/operator/devices",
            get(operator::list::list).post(operator::register::register),
        )
        .route(
            "/api/v1/operator/tenants/{tenant_id}/devices/{device_id}",
            get(operator::get::get)
                .patch(operator::update::update)
                .delete(operator::decommission::decommission),
        )
        .route(
            "/api/v1/operator/devices/tier-assignments",
            post(operator::override_tiers::override_tiers),
        )
        .route("/api/v1/operator/devices/tier", put(operator::override_tier::override_tier))
        .route(
            "/api/v1/operator/devices/{device_id}/subscription",
            post(operator::move_device::move_device),
        )
        .route("/api/v1/service/devices/last-seen", post(service::last_seen::see))
}

/// The OpenAPI document of these routes.
#[derive(OpenApi)]
#[openapi(paths(
    customer::list_tiers::list_tiers,
    customer::list::list,
    customer::register::register,
    customer::assign_many::assign_many,
    customer::get::get,
    customer::update::update,
    customer::decommission::decommission,
    customer::assign_tier::assign_tier,
    customer::remove_tier::remove_tier,
    customer::move_device::move_device,
    operator::list::list,
    operator::register::register,
    operator::get::get,
    operator::update::update,
    operator::decommission::decommission,
    operator::override_tier::override_tier,
    operator::override_tiers::override_tiers,
    operator::move_device::move_device,
    service::last_seen::see
))]
pub struct Api;
