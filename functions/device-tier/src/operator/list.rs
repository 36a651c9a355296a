//! Lists the devices of all tenants.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::paging::Page;
use shared::domain::devices;
use shared::domain::devices::model::{Device, DeviceFilter};
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Query};
use utoipa::ToSchema;

/// A page of devices.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeviceList {
    devices: Vec<Device>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// Devices by any filter, by tenant and id
#[utoipa::path(get, path = "/api/v1/operator/devices", tag = "devices", operation_id =
    "list_devices", params(DeviceFilter),
    responses((status = 200, description = "A page", body = DeviceList)))]
pub(crate) async fn list(
    State(app): State<OperatorApp>,
    _: Operator,
    Query(filter): Query<DeviceFilter>,
) -> Result<Json<DeviceList>> {
    let page = Page::new(filter.limit, filter.offset, filter.cursor.clone())?;
    let slice = devices::operator::list(app.db(), &filter, &page).await?;
    Ok(Json(DeviceList {
        count: slice.items.len(),
        devices: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
