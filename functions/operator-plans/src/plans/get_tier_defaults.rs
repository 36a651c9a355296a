//! Lists a plan's tier defaults.

use axum::extract::State;
use shared::Result;
use shared::base::ids::PlanId;
use shared::domain::plans;
use shared::domain::plans::model::TierDefaults;
use shared::http::app::OperatorApp;
use shared::http::{Operator, Path, Tagged};

/// How many slots of which tier a plan brings
#[utoipa::path(get, path = "/api/v1/operator/plans/{plan_id}/tier-defaults", tag = "plans",
    operation_id = "get_tier_defaults",
    responses((status = 200, description = "All of them", body = TierDefaults),
        (status = 404, description = "`plan_not_found`")))]
pub(crate) async fn get(
    State(app): State<OperatorApp>,
    _: Operator,
    Path(id): Path<PlanId>,
) -> Result<Tagged<TierDefaults>> {
    plans::tier_defaults(app.db(), &id).await.map(Tagged)
}
