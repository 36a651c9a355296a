//! For customers: what their company has and may use, buying and paying, and its profile
//! (docs/billing.md).

mod app;
mod as_customer;
mod billing;
mod entitlements;
mod me;
mod organization;

use axum::Router;
use axum::routing::{get, post, put};
use utoipa::OpenApi;

pub use self::app::BillingApp;

/// Every route of this function.
pub fn routes() -> Router<BillingApp> {
    Router::new()
        .route("/api/v1/me", get(me::get))
        .route(
            "/api/v1/operator/tenants/{tenant_id}/customer/entitlements",
            get(as_customer::entitlements::get),
        )
        .route(
            "/api/v1/operator/tenants/{tenant_id}/customer/billing/status",
            get(as_customer::billing_status::get),
        )
        .route(
            "/api/v1/operator/tenants/{tenant_id}/customer/organization",
            get(as_customer::organization::get),
        )
        .route("/api/v1/customer/billing/config", get(billing::config::config))
        .route("/api/v1/customer/billing/status", get(billing::status::status))
        .route("/api/v1/customer/billing/upcoming", get(billing::upcoming::upcoming))
        .route("/api/v1/customer/billing/checkout", post(billing::checkout::open))
        .route("/api/v1/customer/billing/checkout/{session_id}", get(billing::checkout_status::get))
        .route("/api/v1/customer/billing/addon-checkout", post(billing::addon_checkout::open))
        .route("/api/v1/customer/billing/portal", post(billing::portal::open))
        .route("/api/v1/customer/entitlements", get(entitlements::get::get))
        .route("/api/v1/customer/entitlements/check", post(entitlements::check::check))
        .route("/api/v1/customer/entitlements/usage", put(entitlements::report_usage::report))
        .route(
            "/api/v1/customer/organization",
            get(organization::get::get).put(organization::update::update),
        )
}

/// The OpenAPI document of these routes.
#[derive(OpenApi)]
#[openapi(paths(
    me::get,
    as_customer::entitlements::get,
    as_customer::billing_status::get,
    as_customer::organization::get,
    billing::config::config,
    billing::status::status,
    billing::upcoming::upcoming,
    billing::checkout::open,
    billing::checkout_status::get,
    billing::addon_checkout::open,
    billing::portal::open,
    entitlements::get::get,
    entitlements::check::check,
    entitlements::report_usage::report,
    organization::get::get,
    organization::update::update
))]
pub struct Api;
