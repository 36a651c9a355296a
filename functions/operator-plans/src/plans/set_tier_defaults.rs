//! Replaces a plan's tier defaults.

use axum::extract::State;
use shared::Result;
use shared::base::fields::List;
use shared::base::ids::PlanId;
use shared::base::version::IfMatch;
use shared::domain::plans;
use shared::domain::plans::model::{TierDefault, TierDefaults};
use shared::http::app::OperatorApp;
use shared::http::{Admin, Body, Path, Updated};

/// Replaces the whole list; existing subscriptions keep their slots until a sync
#[utoipa::path(put, path = "/api/v1/operator/plans/{plan_id}/tier-defaults", tag = "plans",
    operation_id = "set_tier_defaults",
    request_body = Vec<TierDefault>, params(("If-Match" = Option<String>, Header)),
    responses((status = 200, description = "As they are now", body = Updated<TierDefaults>),
        (status = 404, description = "`plan_not_found`, `tier_not_found`"),
        (status = 412, description = "`version_changed`")))]
pub(crate) async fn set(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<PlanId>,
    if_match: IfMatch,
    Body(wanted): Body<List<TierDefault, 100>>,
) -> Result<Updated<TierDefaults>> {
    plans::set_tier_defaults(app.db(), &by, &id, &if_match, wanted, app.now())
        .await
        .map(Updated::ok)
}
