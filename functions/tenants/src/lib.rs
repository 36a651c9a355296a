//! Customer companies and their users, for operators (docs/tenants.md).
//!
//! One endpoint per file: it extracts, calls one operation of `shared`, and answers.

mod app;
mod tenants;
mod users;

use axum::Router;
use axum::routing::{get, patch, post};
use utoipa::OpenApi;

pub use self::app::TenantsApp;

/// Every route of this function.
pub fn routes() -> Router<TenantsApp> {
    Router::new()
        .route("/api/v1/operator/tenants", get(tenants::list::list).post(tenants::create::create))
        .route(
            "/api/v1/operator/tenants/{tenant_id}",
            get(tenants::get::get).patch(tenants::update::update).delete(tenants::delete::delete),
        )
        .route("/api/v1/operator/tenants/{tenant_id}/erase", post(tenants::erase::erase))
        .route("/api/v1/operator/users", get(users::list::list).post(users::create::create))
        .route("/api/v1/operator/users/{user_id}", patch(users::update::update))
        .route(
            "/api/v1/operator/users/{user_id}/send-welcome-email",
            post(users::send_welcome_email::send),
        )
}

/// The OpenAPI document of these routes.
#[derive(OpenApi)]
#[openapi(paths(
    tenants::list::list,
    tenants::create::create,
    tenants::get::get,
    tenants::update::update,
    tenants::delete::delete,
    tenants::erase::erase,
    users::list::list,
    users::create::create,
    users::update::update,
    users::send_welcome_email::send
))]
pub struct Api;
