//! What never came.

use axum::extract::State;
use shared::Result;
use shared::domain::events::model::{Backfill, Backfilled};
use shared::http::{Admin, Body, Json};

use crate::app::OperationsApp;

/// Queues what Stripe lists for a range and was never received: a part of it a call, for some 20
/// seconds
#[utoipa::path(post, path = "/api/v1/operator/stripe-events/backfill", tag = "operations",
    operation_id = "backfill_stripe_events", request_body = Backfill,
    responses((status = 200, description =
        "What this call did; while `done` is false, `next_cursor` is the next one's `cursor`",
        body = Backfilled),
        (status = 502, description = "`upstream`: Stripe failed; ask again"),
        (status = 503, description = "`unavailable`: the queue or the database; ask again")))]
pub async fn backfill(
    State(app): State<OperationsApp>,
    Admin(by): Admin,
    Body(asked): Body<Backfill>,
) -> Result<Json<Backfilled>> {
    app.backfiller().for_operator(&by, &asked, app.operator.now()).await.map(Json)
}
