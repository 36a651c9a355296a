//! Lists the outbox steps.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::paging::Page;
use shared::domain::outbox;
use shared::domain::outbox::model::{StepFilter, StepRow};
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Query};
use utoipa::ToSchema;

/// A page of steps.
#[derive(Serialize, ToSchema)]
pub(crate) struct StepList {
    steps: Vec<StepRow>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// Outbox steps, newest first, in every status
#[utoipa::path(get, path = "/api/v1/operator/provisioning", tag = "operations", operation_id =
    "list_provisioning", params(StepFilter),
    responses((status = 200, description = "A page", body = StepList)))]
pub(crate) async fn list(
    State(app): State<OperatorApp>,
    _: Operator,
    Query(filter): Query<StepFilter>,
) -> Result<Json<StepList>> {
    let page = Page::new(filter.limit, filter.offset, filter.cursor.clone())?;
    let slice = outbox::operator::list(app.db(), &filter, &page).await?;
    Ok(Json(StepList {
        count: slice.items.len(),
        steps: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
