//! Renames an own device.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::base::ids::DeviceId;
use shared::base::version::IfMatch;
use shared::domain::devices::customer;
use shared::domain::devices::model::{Device, DeviceUpdate};
use shared::http::app::CustomerApp;
use shared::http::{Body, Path, Updated};

/// Changes the name and the site of an own device
#[utoipa::path(patch, path = "/api/v1/customer/devices/{device_id}", tag = "own devices",
    operation_id = "update_own_device", request_body = DeviceUpdate,
    params(("If-Match" = Option<String>, Header)),
    responses((status = 200, description = "As it is now", body = Updated<Device>),
        (status = 404, description = "`device_not_found`")))]
pub(crate) async fn update(
    State(app): State<CustomerApp>,
    caller: Customer,
    Path(id): Path<DeviceId>,
    if_match: IfMatch,
    Body(update): Body<DeviceUpdate>,
) -> Result<Updated<Device>> {
    customer::update(app.db(), &caller, &id, &if_match, update, app.now()).await.map(Updated::ok)
}
