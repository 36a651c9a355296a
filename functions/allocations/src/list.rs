//! Lists tier allocations.

use axum::extract::State;
use shared::Result;
use shared::base::ids::SubscriptionId;
use shared::domain::allocations;
use shared::domain::allocations::model::AllocationList;
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Path};

/// A subscription's slots by tier, with what its family has and uses of each
#[utoipa::path(get, path = "/api/v1/operator/subscriptions/{subscription_id}/tier-allocations",
    tag = "tier allocations", operation_id = "list_allocations",
    responses((status = 200, description = "All of them", body = AllocationList),
        (status = 404, description = "`subscription_not_found`")))]
pub(crate) async fn list(
    State(app): State<OperatorApp>,
    _: Operator,
    Path(id): Path<SubscriptionId>,
) -> Result<Json<AllocationList>> {
    allocations::list(app.db(), &id).await.map(Json)
}
