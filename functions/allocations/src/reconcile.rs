//! Corrects the counts of devices.

use axum::extract::State;
use shared::Result;
use shared::base::ids::SubscriptionId;
use shared::domain::allocations;
use shared::domain::allocations::model::{Reconciled, Try};
use shared::http::app::OperatorApp;
use shared::http::{Admin, Json, Path, Query};

/// Counts the devices of the subscription's family again, and corrects what differs
#[utoipa::path(post, path = "/api/v1/operator/subscriptions/{subscription_id}/reconcile-tiers",
    tag = "tier allocations", operation_id = "reconcile_tiers",
    params(Try),
    responses((status = 200, description = "What was wrong", body = Reconciled),
        (status = 404, description = "`subscription_not_found`")))]
pub(crate) async fn reconcile(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<SubscriptionId>,
    Query(how): Query<Try>,
) -> Result<Json<Reconciled>> {
    allocations::recount::reconcile(app.db(), &by, &id, how.dry_run.0, app.now()).await.map(Json)
}
