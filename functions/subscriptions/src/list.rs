//! Lists the subscriptions of all tenants.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::paging::Page;
use shared::domain::subscriptions;
use shared::domain::subscriptions::model::{SubscriptionFilter, SubscriptionSummary};
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Query};
use utoipa::ToSchema;

/// A page of subscriptions.
#[derive(Serialize, ToSchema)]
pub(crate) struct SubscriptionList {
    subscriptions: Vec<SubscriptionSummary>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// Subscriptions by any filter, in the order in which they end
#[utoipa::path(get, path = "/api/v1/operator/subscriptions", tag = "subscriptions", operation_id =
    "list_subscriptions", params(SubscriptionFilter),
    responses((status = 200, description = "A page", body = SubscriptionList)))]
pub(crate) async fn list(
    State(app): State<OperatorApp>,
    _: Operator,
    Query(filter): Query<SubscriptionFilter>,
) -> Result<Json<SubscriptionList>> {
    let page = Page::new(filter.limit, filter.offset, filter.cursor.clone())?;
    let slice = subscriptions::list(app.db(), &filter, &page, app.now()).await?;
    Ok(Json(SubscriptionList {
        count: slice.items.len(),
        subscriptions: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
