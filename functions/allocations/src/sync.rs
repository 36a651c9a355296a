//! Applies the plan's slots.

use axum::extract::State;
use shared::Result;
use shared::base::ids::SubscriptionId;
use shared::domain::allocations;
use shared::domain::allocations::model::{AllocationsSynced, Try};
use shared::http::app::OperatorApp;
use shared::http::{Admin, Json, Path, Query};

/// Gives the subscription the slots that its plan brings now
#[utoipa::path(post,
    path = "/api/v1/operator/subscriptions/{subscription_id}/sync-tier-allocations", tag =
        "tier allocations",
    operation_id = "sync_allocations", params(Try),
    responses((status = 200, description = "What the plan brings", body = AllocationsSynced),
        (status = 400, description = "`no_plan`"),
        (status = 404, description = "`subscription_not_found`, `no_tier_defaults`")))]
pub(crate) async fn sync(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<SubscriptionId>,
    Query(how): Query<Try>,
) -> Result<Json<AllocationsSynced>> {
    allocations::sync(app.db(), &by, &id, how.dry_run.0, app.now()).await.map(Json)
}
