//! Removes a tier allocation.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::ids::SubscriptionId;
use shared::base::version::IfMatch;
use shared::domain::allocations;
use shared::http::app::OperatorApp;
use shared::http::{Admin, Json, Path};
use utoipa::ToSchema;

/// The answer to a deletion.
#[derive(Serialize, ToSchema)]
pub(crate) struct Deleted {
    /// `ok`.
    status: &'static str,
}

/// Removes a tier's slots that no device uses
#[utoipa::path(delete,
    path = "/api/v1/operator/subscriptions/{subscription_id}/tier-allocations/{tier_id}", tag =
        "tier allocations",
    operation_id = "delete_allocation", params(("If-Match" = Option<String>, Header)),
    responses((status = 200, description = "Removed", body = Deleted), (status = 404, description =
        "`subscription_not_found`, `allocation_not_found`"),
        (status = 409, description = "`slots_in_use`"), (status = 412, description =
            "`version_changed`")))]
pub(crate) async fn delete(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path((id, tier)): Path<(SubscriptionId, i32)>,
    if_match: IfMatch,
) -> Result<Json<Deleted>> {
    allocations::delete(app.db(), &by, &id, tier, &if_match, app.now()).await?;
    Ok(Json(Deleted { status: "ok" }))
}
