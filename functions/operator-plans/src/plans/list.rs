//! Lists the plans.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::paging::PageQuery;
use shared::domain::plans;
use shared::domain::plans::model::Plan;
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Query};
use utoipa::ToSchema;

/// A page of plans.
#[derive(Serialize, ToSchema)]
pub(crate) struct PlanList {
    plans: Vec<Plan>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// All plans, retired ones too, in the order of the catalogue
#[utoipa::path(get, path = "/api/v1/operator/plans", tag = "plans", operation_id = "list_plans",
    params(PageQuery),
    responses((status = 200, description = "A page", body = PlanList)))]
pub(crate) async fn list(
    State(app): State<OperatorApp>,
    _: Operator,
    Query(query): Query<PageQuery>,
) -> Result<Json<PlanList>> {
    let slice = plans::list(app.db(), &query.page()?).await?;
    Ok(Json(PlanList {
        count: slice.items.len(),
        plans: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
