//! Changes a subscription.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use shared::Result;
use shared::base::ids::SubscriptionId;
use shared::base::version::IfMatch;
use shared::domain::allocations::model::Try;
use shared::domain::subscriptions;
use shared::domain::subscriptions::model::{Preview, SubscriptionChange, SubscriptionUpdate};
use shared::domain::subscriptions::preview;
use shared::http::app::OperatorApp;
use shared::http::{Admin, Body, Json, Path, Query, Tagged};
use utoipa::ToSchema;

/// What was changed, or would be.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "for the document")]
pub(crate) enum ChangeOrPreview {
    Change(SubscriptionChange),
    Preview(Preview),
}

/// Changes the fields in the body, and what follows from them: the slots of another plan, the terms
/// of ADDONs. A dry run only says what would change
#[utoipa::path(patch, path = "/api/v1/operator/subscriptions/{subscription_id}", tag =
    "subscriptions", operation_id = "update_subscription",
    request_body = SubscriptionUpdate, params(Try, ("If-Match" = Option<String>, Header)),
    responses((status = 200, description = "As it is now; what a dry run would change",
        body = ChangeOrPreview),
        (status = 400, description = "`no_fields`, `addon_term`"),
        (status = 404, description = "`subscription_not_found`, `plan_not_found`"),
        (status = 409, description = "`stripe_managed`, `devices_assigned`"),
        (status = 412, description = "`version_changed`")))]
pub(crate) async fn update(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<SubscriptionId>,
    if_match: IfMatch,
    Query(how): Query<Try>,
    Body(update): Body<SubscriptionUpdate>,
) -> Result<Response> {
    if how.dry_run.0 {
        let would = preview::of_update(app.db(), &by, &id, &if_match, update, app.now());
        return would.await.map(|preview| Json(preview).into_response());
    }
    let change = subscriptions::update(app.db(), &by, &id, &if_match, update, app.now()).await?;
    Ok(Tagged(change).into_response())
}
