//! Checks the invariants.

use axum::extract::State;
use shared::Result;
use shared::domain::invariants;
use shared::domain::invariants::model::Invariants;
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator};

/// How often each invariant is broken now, with examples; every count should be 0
#[utoipa::path(get, path = "/api/v1/operator/invariants", tag = "operations", operation_id =
    "list_invariants",
    responses((status = 200, description = "All of them, broken or not", body = Invariants)))]
pub(crate) async fn list(State(app): State<OperatorApp>, _: Operator) -> Result<Json<Invariants>> {
    invariants::list(app.db(), app.now()).await.map(Json)
}
