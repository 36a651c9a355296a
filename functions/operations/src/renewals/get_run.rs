//! Shows an hourly run.

use axum::extract::State;
use shared::Result;
use shared::domain::renewals::operator;
use shared::domain::renewals::operator::model::RunRow;
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Path};

/// An hourly run, also one that an operator requested
#[utoipa::path(get, path = "/api/v1/operator/renewals/runs/{run_id}", tag = "operations",
    operation_id = "get_renewal_run",
    responses((status = 200, description = "As it is", body = RunRow),
        (status = 404, description = "`run_not_found`")))]
pub(crate) async fn get(
    State(app): State<OperatorApp>,
    _: Operator,
    Path(id): Path<i64>,
) -> Result<Json<RunRow>> {
    operator::run_of(app.db(), id).await.map(Json)
}
