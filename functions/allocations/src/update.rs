//! Changes a tier allocation.

use axum::extract::State;
use shared::Result;
use shared::base::ids::SubscriptionId;
use shared::base::version::IfMatch;
use shared::domain::allocations;
use shared::domain::allocations::model::{AllocationChange, AllocationUpdate};
use shared::http::app::OperatorApp;
use shared::http::{Admin, Body, Path, Updated};

/// Changes a limit, or, by hand, the count of used slots; the answer warns where that differs from
/// the devices
#[utoipa::path(put,
    path = "/api/v1/operator/subscriptions/{subscription_id}/tier-allocations/{tier_id}", tag =
        "tier allocations",
    operation_id = "update_allocation", request_body = AllocationUpdate,
    params(("If-Match" = Option<String>, Header)),
    responses((status = 200, description = "As it is now", body = Updated<AllocationChange>),
        (status = 400, description = "`no_fields`, `counted_on_parent`"),
        (status = 404, description = "`subscription_not_found`, `allocation_not_found`"),
        (status = 412, description = "`version_changed`")))]
pub(crate) async fn update(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path((id, tier)): Path<(SubscriptionId, i32)>,
    if_match: IfMatch,
    Body(update): Body<AllocationUpdate>,
) -> Result<Updated<AllocationChange>> {
    allocations::update(app.db(), &by, &id, tier, &if_match, update, app.now())
        .await
        .map(Updated::ok)
}
