//! Lists the status changes to come.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::paging::Page;
use shared::domain::renewals;
use shared::domain::renewals::model::{Forecast, ForecastFilter};
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Query};
use utoipa::ToSchema;

/// A page of status changes to come.
#[derive(Serialize, ToSchema)]
pub(crate) struct ForecastList {
    renewals: Vec<Forecast>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// The status changes to come, soonest first, each with its cause: ends of terms and of grace
/// periods, also overdue ones
#[utoipa::path(get, path = "/api/v1/operator/renewals", tag = "operations", operation_id =
    "list_renewals", params(ForecastFilter),
    responses((status = 200, description = "A page", body = ForecastList)))]
pub(crate) async fn forecast(
    State(app): State<OperatorApp>,
    _: Operator,
    Query(filter): Query<ForecastFilter>,
) -> Result<Json<ForecastList>> {
    let page = Page::new(filter.limit, filter.offset, filter.cursor.clone())?;
    let slice = renewals::operator::forecast(app.db(), &filter, &page, app.now()).await?;
    Ok(Json(ForecastList {
        count: slice.items.len(),
        renewals: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
