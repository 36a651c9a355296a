//! Adds a tier allocation.

use axum::extract::State;
use shared::Result;
use shared::base::ids::SubscriptionId;
use shared::domain::allocations;
use shared::domain::allocations::model::{AllocationView, NewAllocation};
use shared::http::app::OperatorApp;
use shared::http::{Admin, CreatedTagged, Idempotent, Path};

/// Adds slots of a tier of which the subscription has none
#[utoipa::path(post, path = "/api/v1/operator/subscriptions/{subscription_id}/tier-allocations",
    tag = "tier allocations", operation_id = "create_allocation",
    request_body = NewAllocation, params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, description = "Added", body = AllocationView),
        (status = 404, description = "`subscription_not_found`, `tier_not_found`"),
        (status = 409, description = "`allocation_exists`, `request_in_progress`")))]
pub(crate) async fn create(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<SubscriptionId>,
    Idempotent(key, new): Idempotent<NewAllocation>,
) -> Result<CreatedTagged<AllocationView>> {
    let made = allocations::create(app.db(), &by, key.as_ref(), &id, new, app.now()).await?;
    Ok(CreatedTagged {
        location: format!("/api/v1/operator/subscriptions/{id}/tier-allocations/{}", made.tier_id),
        resource: made,
    })
}
