//! Dismisses a step that needs nothing.

use axum::extract::State;
use shared::Result;
use shared::domain::outbox;
use shared::domain::outbox::model::{Dismissal, StepRow};
use shared::http::app::OperatorApp;
use shared::http::{Admin, Body, Json, Path};

/// Ends an unfinished step, and the steps that wait for it, without performing them
#[utoipa::path(post, path = "/api/v1/operator/provisioning/{step_id}/dismiss", tag = "operations",
    operation_id = "dismiss_provisioning",
    request_body = Dismissal,
    responses((status = 200, description = "As it is now", body = StepRow),
        (status = 404, description = "`step_not_found`"),
        (status = 409, description = "`step_final`: it is done or dismissed")))]
pub(crate) async fn dismiss(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<i64>,
    Body(dismissal): Body<Dismissal>,
) -> Result<Json<StepRow>> {
    outbox::operator::dismiss(app.db(), &by, id, &dismissal.note, app.now()).await.map(Json)
}
