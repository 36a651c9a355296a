//! Shows what happens next.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::caller::Customer;
use shared::base::paging::PageQuery;
use shared::domain::renewals;
use shared::domain::renewals::model::Upcoming;
use shared::http::app::CustomerApp;
use shared::http::{Json, Query};
use utoipa::ToSchema;

/// A page of what happens next.
#[derive(Serialize, ToSchema)]
pub(crate) struct UpcomingList {
    upcoming: Vec<Upcoming>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// What will happen to the own subscriptions by itself, soonest first: ends of terms and of grace
/// periods, also overdue ones, with the mails before
#[utoipa::path(get, path = "/api/v1/customer/billing/upcoming", tag = "billing", operation_id =
    "list_upcoming", params(PageQuery),
    responses((status = 200, description = "A page", body = UpcomingList)))]
pub(crate) async fn upcoming(
    State(app): State<CustomerApp>,
    caller: Customer,
    Query(query): Query<PageQuery>,
) -> Result<Json<UpcomingList>> {
    let slice = renewals::customer::upcoming(app.db(), &caller, &query.page()?, app.now()).await?;
    Ok(Json(UpcomingList {
        count: slice.items.len(),
        upcoming: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
