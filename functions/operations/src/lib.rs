//! What operators look at and act on when something is wrong (docs/operations.md), and the routes
//! for monitors and tools.

mod adopt;
mod app;
mod audit;
mod flags;
mod health;
mod invariants;
mod openapi;
mod overview;
mod provisioning;
mod renewals;
mod search;
mod stripe_events;

use axum::Router;
use axum::routing::{get, post};
use shared::domain::flags::model::FlagKind;
use utoipa::OpenApi;

pub use self::app::OperationsApp;

/// Every route of this function.
pub fn routes() -> Router<OperationsApp> {
    Router::new()
        .route("/health", get(health::health))
        .route("/openapi.json", get(openapi::openapi))
        .route("/api/v1/operator/overview", get(overview::get))
        .route("/api/v1/operator/search", get(search::find))
        .route("/api/v1/operator/audit", get(audit::list))
        .route("/api/v1/operator/flags", get(flags::list::list))
        .route("/api/v1/operator/flags/{flag_id}", get(flags::get::get))
        .route("/api/v1/operator/flags/{flag_id}/resolve", post(flags::resolve::resolve))
        .route("/api/v1/operator/invariants", get(invariants::list))
        .route("/api/v1/operator/provisioning", get(provisioning::list::list))
        .route("/api/v1/operator/provisioning/{step_id}", get(provisioning::get::get))
        .route("/api/v1/operator/provisioning/{step_id}/retry", post(provisioning::retry::retry))
        .route(
            "/api/v1/operator/provisioning/{step_id}/dismiss",
            post(provisioning::dismiss::dismiss),
        )
        .route("/api/v1/operator/renewals", get(renewals::forecast::forecast))
        .route("/api/v1/operator/renewals/run", post(renewals::run::run))
        .route("/api/v1/operator/renewals/runs", get(renewals::runs::runs))
        .route("/api/v1/operator/renewals/runs/{run_id}", get(renewals::get_run::get))
        .route(
            "/api/v1/operator/renewals/breaker",
            get(renewals::get_breaker::get).post(renewals::breaker::approve),
        )
        .route("/api/v1/operator/subscriptions/adopt", post(adopt::adopt))
        .route("/api/v1/operator/stripe-events", get(stripe_events::list::list))
        .route("/api/v1/operator/stripe-events/backfill", post(stripe_events::backfill::backfill))
        .route("/api/v1/operator/stripe-events/{event_id}", get(stripe_events::get::get))
        .route(
            "/api/v1/operator/stripe-events/{event_id}/replay",
            post(stripe_events::replay::replay),
        )
        .route(
            "/api/v1/operator/stripe-events/{event_id}/dismiss",
            post(stripe_events::dismiss::dismiss),
        )
}

/// The OpenAPI document of these routes.
#[derive(OpenApi)]
#[openapi(
    paths(
        health::health,
        openapi::openapi,
        overview::get,
        search::find,
        audit::list,
        flags::list::list,
        flags::get::get,
        flags::resolve::resolve,
        invariants::list,
        provisioning::list::list,
        provisioning::get::get,
        provisioning::retry::retry,
        provisioning::dismiss::dismiss,
        renewals::forecast::forecast,
        renewals::run::run,
        renewals::runs::runs,
        renewals::get_run::get,
        renewals::get_breaker::get,
        renewals::breaker::approve,
        adopt::adopt,
        stripe_events::list::list,
        stripe_events::backfill::backfill,
        stripe_events::get::get,
        stripe_events::replay::replay,
        stripe_events::dismiss::dismiss
    ),
    components(schemas(FlagKind))
)]
pub struct Api;
