//! Shows a plan.

use axum::extract::State;
use shared::Result;
use shared::base::ids::PlanId;
use shared::domain::plans;
use shared::domain::plans::model::Plan;
use shared::http::app::OperatorApp;
use shared::http::{Operator, Path, Tagged};

/// A plan, with the `ETag` that a change of it may name
#[utoipa::path(get, path = "/api/v1/operator/plans/{plan_id}", tag = "plans", operation_id =
    "get_plan",
    responses((status = 200, description = "The plan", body = Plan),
        (status = 404, description = "`plan_not_found`")))]
pub(crate) async fn get(
    State(app): State<OperatorApp>,
    _: Operator,
    Path(id): Path<PlanId>,
) -> Result<Tagged<Plan>> {
    plans::get(app.db(), &id).await.map(Tagged)
}
