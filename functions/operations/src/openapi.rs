//! Serves the OpenAPI document that is checked in; the tests compare it with the code.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "operations", operation_id = "openapi",
    security(()),
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json",
        body = Object)))]
pub(crate) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], include_str!("../../../docs/openapi.json"))
}
