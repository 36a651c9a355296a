//! Lists the hourly runs.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::paging::PageQuery;
use shared::domain::renewals::operator;
use shared::domain::renewals::operator::model::RunRow;
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Query};
use utoipa::ToSchema;

/// A page of runs.
#[derive(Serialize, ToSchema)]
pub(crate) struct RunList {
    runs: Vec<RunRow>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// Hourly runs, newest first, also those that operators requested
#[utoipa::path(get, path = "/api/v1/operator/renewals/runs", tag = "operations", operation_id =
    "list_renewal_runs", params(PageQuery),
    responses((status = 200, description = "A page", body = RunList)))]
pub(crate) async fn runs(
    State(app): State<OperatorApp>,
    _: Operator,
    Query(query): Query<PageQuery>,
) -> Result<Json<RunList>> {
    let slice = operator::runs(app.db(), &query.page()?).await?;
    Ok(Json(RunList {
        count: slice.items.len(),
        runs: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
