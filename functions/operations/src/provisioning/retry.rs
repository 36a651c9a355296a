//! Retries a step.

use axum::extract::State;
use shared::Result;
use shared::domain::outbox;
use shared::domain::outbox::model::{Retry, StepRow};
use shared::http::app::OperatorApp;
use shared::http::{Admin, Body, Json, Path};

/// Retries an unfinished step for another 72 hours, with other fields of a user if some are given;
/// the outbox runs every minute
#[utoipa::path(post, path = "/api/v1/operator/provisioning/{step_id}/retry", tag = "operations",
    operation_id = "retry_provisioning", request_body = Retry,
    responses((status = 200, description = "As it is now", body = StepRow),
        (status = 404, description = "`step_not_found`"),
        (status = 409, description = "`step_final`: it is done or dismissed")))]
pub(crate) async fn retry(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<i64>,
    Body(retry): Body<Retry>,
) -> Result<Json<StepRow>> {
    outbox::operator::retry(app.db(), &by, id, retry, app.now()).await.map(Json)
}
