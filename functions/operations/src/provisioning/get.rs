//! Shows a step of the outbox.

use axum::extract::State;
use shared::Result;
use shared::domain::outbox::model::StepRow;
use shared::domain::outbox::operator;
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Path};

/// A step of the outbox, also one that is done
#[utoipa::path(get, path = "/api/v1/operator/provisioning/{step_id}", tag = "operations",
    operation_id = "get_provisioning",
    responses((status = 200, description = "As it is", body = StepRow),
        (status = 404, description = "`step_not_found`")))]
pub(crate) async fn get(
    State(app): State<OperatorApp>,
    _: Operator,
    Path(id): Path<i64>,
) -> Result<Json<StepRow>> {
    operator::get(app.db(), id).await.map(Json)
}
