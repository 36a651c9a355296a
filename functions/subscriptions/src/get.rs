//! Shows a subscription.

use axum::extract::State;
use shared::Result;
use shared::base::ids::SubscriptionId;
use shared::domain::subscriptions;
use shared::domain::subscriptions::model::Detail;
use shared::http::app::OperatorApp;
use shared::http::{Operator, Path, Tagged};

/// A subscription with its first hundred devices, its slots and its ADDONs
#[utoipa::path(get, path = "/api/v1/operator/subscriptions/{subscription_id}", tag =
    "subscriptions", operation_id = "get_subscription",
    responses((status = 200, description = "The subscription", body = Detail),
        (status = 404, description = "`subscription_not_found`")))]
pub(crate) async fn get(
    State(app): State<OperatorApp>,
    _: Operator,
    Path(id): Path<SubscriptionId>,
) -> Result<Tagged<Detail>> {
    subscriptions::get(app.db(), &id).await.map(Tagged)
}
