//! Changes a plan.

use axum::extract::State;
use shared::Result;
use shared::base::ids::PlanId;
use shared::base::version::IfMatch;
use shared::domain::plans;
use shared::domain::plans::model::{Plan, PlanUpdate};
use shared::http::app::OperatorApp;
use shared::http::{Admin, Body, Path, Updated};

/// Changes the fields in the body; existing subscriptions keep what they have
#[utoipa::path(put, path = "/api/v1/operator/plans/{plan_id}", tag = "plans", operation_id =
    "update_plan", request_body = PlanUpdate,
    params(("If-Match" = Option<String>, Header)),
    responses((status = 200, description = "As it is now", body = Updated<Plan>),
        (status = 400, description = "`no_fields`, `malformed_json`"),
        (status = 404, description = "`plan_not_found`"), (status = 409, description =
            "`price_taken`"), (status = 412, description = "`version_changed`")))]
pub(crate) async fn update(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<PlanId>,
    if_match: IfMatch,
    Body(update): Body<PlanUpdate>,
) -> Result<Updated<Plan>> {
    plans::update(app.db(), &by, &id, &if_match, update, app.now()).await.map(Updated::ok)
}
