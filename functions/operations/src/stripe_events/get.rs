//! Shows an event.

use axum::extract::State;
use shared::Result;
use shared::base::ids::StripeEventId;
use shared::domain::events::model::EventDetail;
use shared::domain::events::operator;
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Path};

/// A recorded event with its attempts and its payload
#[utoipa::path(get, path = "/api/v1/operator/stripe-events/{event_id}", tag = "operations",
    operation_id = "get_stripe_event",
    responses((status = 200, description = "The event", body = EventDetail),
        (status = 404, description = "`stripe_event_not_found`")))]
pub(crate) async fn get(
    State(app): State<OperatorApp>,
    _: Operator,
    Path(id): Path<StripeEventId>,
) -> Result<Json<EventDetail>> {
    operator::find(app.db(), &id).await.map(Json)
}
