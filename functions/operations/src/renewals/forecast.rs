//! What is to come.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::paging::Page;
use shared::domain::renewals;
use shared::domain::renewals::model::{Forecast, ForecastFilter};
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Query};
use utoipa::ToSchema;

/// A page of what is to come.
#[derive(Serialize, ToSchema)]
pub struct ForecastList {
    renewals: Vec<Forecast>,
    /// How many this page has.
    count: usize,
    /// For `cursor`, where there are more.
    next_cursor: Option<String>,
}

/// What will become of whom, when and why, the first first: ends of terms and of graces, overdue
/// ones too
#[utoipa::path(get, path = "/api/v1/operator/renewals", tag = "operations", operation_id =
    "list_renewals", params(ForecastFilter),
    responses((status = 200, description = "A page", body = ForecastList)))]
pub async fn forecast(
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
