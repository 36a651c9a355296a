//! What the hourly runs did.

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
pub struct RunList {
    runs: Vec<RunRow>,
    /// How many this page has.
    count: usize,
    /// For `cursor`, where there are more.
    next_cursor: Option<String>,
}

/// Hourly runs, newest first, those that operators asked for among them
#[utoipa::path(get, path = "/api/v1/operator/renewals/runs", tag = "operations", operation_id =
    "list_renewal_runs", params(PageQuery),
    responses((status = 200, description = "A page", body = RunList)))]
pub async fn runs(
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
