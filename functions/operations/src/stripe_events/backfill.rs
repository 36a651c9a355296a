//! Backfills events that were never received.

use axum::extract::State;
use shared::Result;
use shared::domain::events::model::{Backfill, Backfilled};
use shared::http::{Admin, Body, Json};

use crate::app::OperationsApp;

/// Queues the events that Stripe lists for a range and that were never received. One call works
/// for some 20 seconds and does a part of the range
#[utoipa::path(post, path = "/api/v1/operator/stripe-events/backfill", tag = "operations",
    operation_id = "backfill_stripe_events", request_body = Backfill,
    responses((status = 200, description =
        "What this call did; while `done` is false, `next_cursor` is the next one's `cursor`",
        body = Backfilled),
        (status = 502, description = "`upstream`: Stripe failed; try again"),
        (status = 503, description = "`unavailable`: the queue or the database; try again")))]
pub(crate) async fn backfill(
    State(app): State<OperationsApp>,
    Admin(by): Admin,
    Body(asked): Body<Backfill>,
) -> Result<Json<Backfilled>> {
    app.backfiller().for_operator(&by, &asked, app.operator.now()).await.map(Json)
}
