//! Shows what waits for operators, in numbers.

use axum::extract::State;
use shared::Result;
use shared::domain::overview;
use shared::domain::overview::model::Overview;
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator};

/// What waits for operators, in numbers: flags, events, steps, terms that end, the last run
#[utoipa::path(get, path = "/api/v1/operator/overview", tag = "operations", operation_id =
    "get_overview",
    responses((status = 200, description = "As it is at this moment", body = Overview)))]
pub(crate) async fn get(State(app): State<OperatorApp>, _: Operator) -> Result<Json<Overview>> {
    overview::get(app.db(), app.now()).await.map(Json)
}
