//! Lists the device tiers.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::paging::PageQuery;
use shared::domain::tiers;
use shared::domain::tiers::model::Tier;
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Query};
use utoipa::ToSchema;

/// A page of device tiers.
#[derive(Serialize, ToSchema)]
pub(crate) struct TierList {
    tiers: Vec<Tier>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// All device tiers, retired ones too, in their order
#[utoipa::path(get, path = "/api/v1/operator/device-tiers", tag = "device tiers", operation_id =
    "list_device_tiers", params(PageQuery),
    responses((status = 200, description = "A page", body = TierList)))]
pub(crate) async fn list(
    State(app): State<OperatorApp>,
    _: Operator,
    Query(query): Query<PageQuery>,
) -> Result<Json<TierList>> {
    let slice = tiers::operator::list(app.db(), &query.page()?).await?;
    Ok(Json(TierList {
        count: slice.items.len(),
        tiers: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
