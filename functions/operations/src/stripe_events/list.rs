//! Lists Stripe's events and their outcomes.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::paging::Page;
use shared::domain::events::model::{EventFilter, EventRow};
use shared::domain::events::operator;
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Query};
use utoipa::ToSchema;

/// A page of events.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventList {
    events: Vec<EventRow>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// Stripe's events that were recorded, newest first, in every status
#[utoipa::path(get, path = "/api/v1/operator/stripe-events", tag = "operations", operation_id =
    "list_stripe_events", params(EventFilter),
    responses((status = 200, description = "A page", body = EventList)))]
pub(crate) async fn list(
    State(app): State<OperatorApp>,
    _: Operator,
    Query(filter): Query<EventFilter>,
) -> Result<Json<EventList>> {
    let page = Page::new(filter.limit, filter.offset, filter.cursor.clone())?;
    let slice = operator::list(app.db(), &filter, &page).await?;
    Ok(Json(EventList {
        count: slice.items.len(),
        events: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
