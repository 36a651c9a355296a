//! Lists own devices.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::caller::Customer;
use shared::base::paging::Page;
use shared::domain::devices::customer;
use shared::domain::devices::model::{Device, OwnDeviceFilter};
use shared::http::app::CustomerApp;
use shared::http::{Json, Query};
use utoipa::ToSchema;

/// A page of own devices.
#[derive(Serialize, ToSchema)]
pub(crate) struct OwnDevices {
    devices: Vec<Device>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// Own devices in use, by id
#[utoipa::path(get, path = "/api/v1/customer/devices", tag = "own devices", operation_id =
    "list_own_devices", params(OwnDeviceFilter),
    responses((status = 200, description = "A page", body = OwnDevices)))]
pub(crate) async fn list(
    State(app): State<CustomerApp>,
    caller: Customer,
    Query(filter): Query<OwnDeviceFilter>,
) -> Result<Json<OwnDevices>> {
    let page = Page::new(filter.limit, filter.offset, filter.cursor.clone())?;
    let slice = customer::list(app.db(), &caller, &filter.into(), &page).await?;
    Ok(Json(OwnDevices {
        count: slice.items.len(),
        devices: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
