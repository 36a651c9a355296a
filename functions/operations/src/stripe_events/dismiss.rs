//! Dismisses an event that needs nothing.

use axum::extract::State;
use shared::Result;
use shared::base::ids::StripeEventId;
use shared::domain::events::model::{EventDetail, EventDismissal};
use shared::domain::events::operator;
use shared::http::app::OperatorApp;
use shared::http::{Admin, Body, Json, Path};

/// Ends a waiting or failed event, with a note; nothing of it is applied
#[utoipa::path(post, path = "/api/v1/operator/stripe-events/{event_id}/dismiss", tag = "operations",
    operation_id = "dismiss_stripe_event",
    request_body = EventDismissal,
    responses((status = 200, description = "As it is now", body = EventDetail),
        (status = 404, description = "`stripe_event_not_found`"),
        (status = 409, description = "`event_final`: it is applied, ignored or dismissed")))]
pub(crate) async fn dismiss(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<StripeEventId>,
    Body(dismissal): Body<EventDismissal>,
) -> Result<Json<EventDetail>> {
    operator::dismiss(app.db(), &id, dismissal.note.as_str(), &by, app.now()).await.map(Json)
}
