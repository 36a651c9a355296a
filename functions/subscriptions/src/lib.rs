//! Subscriptions, for operators: what a sync with Stripe does to one, by hand and audited
//! (docs/subscriptions.md).

mod create;
mod end;
mod get;
mod list;
mod mails;
mod update;

use axum::Router;
use axum::routing::get;
use shared::http::app::OperatorApp;
use utoipa::OpenApi;

/// Every route of this function.
pub fn routes() -> Router<OperatorApp> {
    Router::new()
        .route("/api/v1/operator/subscriptions", get(list::list).post(create::create))
        .route(
            "/api/v1/operator/subscriptions/{subscription_id}",
            get(get::get).patch(update::update).delete(end::end),
        )
        .route("/api/v1/operator/subscriptions/{subscription_id}/mails", get(mails::list))
}

/// The OpenAPI document of these routes.
#[derive(OpenApi)]
#[openapi(paths(list::list, create::create, get::get, update::update, end::end, mails::list))]
pub struct Api;
