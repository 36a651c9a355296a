//! Changes a subscription.

use axum::extract::State;
use shared::Result;
use shared::base::ids::SubscriptionId;
use shared::base::version::IfMatch;
use shared::domain::subscriptions;
use shared::domain::subscriptions::model::{SubscriptionChange, SubscriptionUpdate};
use shared::http::app::OperatorApp;
use shared::http::{Admin, Body, Path, Tagged};

/// Changes the fields in the body, and what follows from them: the slots of another plan, the terms
/// of ADDONs
#[utoipa::path(patch, path = "/api/v1/operator/subscriptions/{subscription_id}", tag =
    "subscriptions", operation_id = "update_subscription",
    request_body = SubscriptionUpdate, params(("If-Match" = Option<String>, Header)),
    responses((status = 200, description = "As it is now", body = SubscriptionChange),
        (status = 400, description = "`no_fields`, `addon_term`"),
        (status = 404, description = "`subscription_not_found`, `plan_not_found`"),
        (status = 409, description = "`stripe_managed`, `devices_assigned`"),
        (status = 412, description = "`version_changed`")))]
pub(crate) async fn update(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<SubscriptionId>,
    if_match: IfMatch,
    Body(update): Body<SubscriptionUpdate>,
) -> Result<Tagged<SubscriptionChange>> {
    subscriptions::update(app.db(), &by, &id, &if_match, update, app.now()).await.map(Tagged)
}
