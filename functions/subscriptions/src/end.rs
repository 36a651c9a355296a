//! Ends a subscription.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::ids::SubscriptionId;
use shared::base::version::IfMatch;
use shared::domain::subscriptions;
use shared::domain::subscriptions::model::{Ending, Preview, SubscriptionEnd};
use shared::domain::subscriptions::preview;
use shared::http::app::OperatorApp;
use shared::http::{Admin, Json, Path, Query};
use utoipa::ToSchema;

/// What was ended, or would be.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum EndOrPreview {
    End(SubscriptionEnd),
    Preview(Box<Preview>),
}

/// Expires a subscription, and a MAIN's ADDONs with it. A dry run only says what would change
#[utoipa::path(delete, path = "/api/v1/operator/subscriptions/{subscription_id}", tag =
    "subscriptions", operation_id = "end_subscription",
    params(Ending, ("If-Match" = Option<String>, Header)),
    responses((status = 200, description =
        "Ended, or left to Stripe; what a dry run would change", body = EndOrPreview),
        (status = 404, description = "`subscription_not_found`"),
        (status = 409, description = "`devices_assigned`, `stripe_managed`"),
        (status = 412, description = "`version_changed`")))]
pub(crate) async fn end(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<SubscriptionId>,
    if_match: IfMatch,
    Query(ending): Query<Ending>,
) -> Result<Json<EndOrPreview>> {
    let (db, now) = (app.db(), app.now());
    Ok(Json(if ending.dry_run.0 {
        EndOrPreview::Preview(preview::of_end(db, &by, &id, &if_match, ending, now).await?.into())
    } else {
        EndOrPreview::End(subscriptions::end::end(db, &by, &id, &if_match, ending, now).await?)
    }))
}
