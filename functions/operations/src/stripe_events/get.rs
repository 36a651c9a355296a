//! One event.

use axum::extract::State;
use shared::Result;
use shared::app::App;
use shared::events::{model::EventDetail, replay};
use shared::http::{Json, Operator, Path};
use shared::ids::StripeEventId;

/// A recorded event with its tries and what it says
#[utoipa::path(get, path = "/api/v1/operator/stripe-events/{event_id}", tag = "operations",
    operation_id = "get_stripe_event",
    responses((status = 200, description = "It", body = EventDetail), (status = 404, description =
        "`stripe_event_not_found`")))]
pub async fn get(
    State(app): State<App>,
    _: Operator,
    Path(id): Path<StripeEventId>,
) -> Result<Json<EventDetail>> {
    replay::find(app.operator_db()?, &id).await.map(Json)
}
