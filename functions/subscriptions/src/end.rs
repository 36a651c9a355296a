//! Ends a subscription.

use axum::extract::State;
use shared::Result;
use shared::base::ids::SubscriptionId;
use shared::base::version::IfMatch;
use shared::domain::subscriptions;
use shared::domain::subscriptions::model::{Ending, SubscriptionEnd};
use shared::http::app::OperatorApp;
use shared::http::{Admin, Json, Path, Query};

/// Expires a subscription, and a MAIN's ADDONs with it
#[utoipa::path(delete, path = "/api/v1/operator/subscriptions/{subscription_id}", tag =
    "subscriptions", operation_id = "end_subscription",
    params(Ending, ("If-Match" = Option<String>, Header)),
    responses((status = 200, description = "Ended, or left to Stripe", body = SubscriptionEnd),
        (status = 404, description = "`subscription_not_found`"),
        (status = 409, description = "`devices_assigned`, `stripe_managed`"),
        (status = 412, description = "`version_changed`")))]
pub(crate) async fn end(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<SubscriptionId>,
    if_match: IfMatch,
    Query(ending): Query<Ending>,
) -> Result<Json<SubscriptionEnd>> {
    subscriptions::end::end(app.db(), &by, &id, &if_match, ending, app.now()).await.map(Json)
}
