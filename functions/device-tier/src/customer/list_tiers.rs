//! Lists the tiers on offer.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::caller::Customer;
use shared::base::paging::PageQuery;
use shared::domain::tiers;
use shared::domain::tiers::model::OfferedTier;
use shared::http::app::CustomerApp;
use shared::http::{Json, Query};
use utoipa::ToSchema;

/// A page of tiers.
#[derive(Serialize, ToSchema)]
pub(crate) struct OfferedTiers {
    tiers: Vec<OfferedTier>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// The device tiers that a device can get, in their order
#[utoipa::path(get, path = "/api/v1/customer/device-tiers", tag = "own devices", operation_id =
    "list_offered_tiers", params(PageQuery),
    responses((status = 200, description = "A page", body = OfferedTiers)))]
pub(crate) async fn list_tiers(
    State(app): State<CustomerApp>,
    caller: Customer,
    Query(query): Query<PageQuery>,
) -> Result<Json<OfferedTiers>> {
    let slice = tiers::customer::offered(app.db(), &caller, &query.page()?).await?;
    Ok(Json(OfferedTiers {
        count: slice.items.len(),
        tiers: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
