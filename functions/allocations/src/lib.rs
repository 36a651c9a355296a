//! Tier allocations of a subscription, for operators (docs/subscriptions.md, "Slots").

mod create;
mod delete;
mod list;
mod reconcile;
mod sync;
mod update;

use axum::Router;
use axum::routing::{get, post, put};
use shared::http::app::OperatorApp;
use utoipa::OpenApi;

/// Every route of this function.
pub fn routes() -> Router<OperatorApp> {
    Router::new()
        .route(
            "/api/v1/operator/subscriptions/{subscription_id}/tier-allocations",
            get(list::list).post(create::create),
        )
        .route(
            "/api/v1/operator/subscriptions/{subscription_id}/tier-allocations/{tier_id}",
            put(update::update).delete(delete::delete),
        )
        .route(
            "/api/v1/operator/subscriptions/{subscription_id}/sync-tier-allocations",
            post(sync::sync),
        )
        .route(
            "/api/v1/operator/subscriptions/{subscription_id}/reconcile-tiers",
            post(reconcile::reconcile),
        )
}

/// The OpenAPI document of these routes.
#[derive(OpenApi)]
#[openapi(paths(
    list::list,
    create::create,
    update::update,
    delete::delete,
    sync::sync,
    reconcile::reconcile
))]
pub struct Api;
