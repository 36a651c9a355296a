//! What never came.

use axum::extract::State;
use shared::Result;
use shared::domain::events::backfill::Backfiller;
use shared::domain::events::model::{Backfill, Backfilled};
use shared::http::app::App;
use shared::http::{Admin, Body, Json};

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
    State(app): State<App>,
    Admin(by): Admin,
    Body(asked): Body<Backfill>,
) -> Result<Json<Backfilled>> {
    let (stripe, reads_per_second) = app.operator_stripe()?;
    let (db, queue) = (app.operator_db()?, app.event_queue()?);
    let backfiller = Backfiller { db, queue, stripe, reads_per_second };
    backfiller.for_operator(&by, &asked, app.clock().now()).await.map(Json)
}
