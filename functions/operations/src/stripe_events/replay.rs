//! Replays an event.

use axum::extract::State;
use shared::Result;
use shared::base::ids::StripeEventId;
use shared::domain::events;
use shared::domain::events::model::EventDetail;
use shared::http::{Admin, Json, Path};

use crate::app::OperationsApp;

/// Puts a waiting or failed event on the queue again, once its cause is removed
#[utoipa::path(post, path = "/api/v1/operator/stripe-events/{event_id}/replay", tag = "operations",
    operation_id = "replay_stripe_event",
    responses((status = 200, description = "As it is now; it is applied within seconds",
        body = EventDetail),
        (status = 404, description = "`stripe_event_not_found`"), (status = 409, description =
            "`event_final`: it is applied, ignored or dismissed"),
        (status = 503, description = "`unavailable`: the queue did not take it; try again")))]
pub(crate) async fn replay(
    State(app): State<OperationsApp>,
    Admin(by): Admin,
    Path(id): Path<StripeEventId>,
) -> Result<Json<EventDetail>> {
    events::operator::replay(app.operator.db(), app.event_queue(), &id, &by, app.operator.now())
        .await
        .map(Json)
}
