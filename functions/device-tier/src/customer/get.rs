//! Shows an own device.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::base::ids::DeviceId;
use shared::domain::devices::customer;
use shared::domain::devices::model::Device;
use shared::http::app::CustomerApp;
use shared::http::{Path, Tagged};

/// An own device, with its tier
#[utoipa::path(get, path = "/api/v1/customer/devices/{device_id}", tag = "own devices",
    operation_id = "get_own_device",
    responses((status = 200, description = "The device", body = Device),
        (status = 404, description = "`device_not_found`")))]
pub(crate) async fn get(
    State(app): State<CustomerApp>,
    caller: Customer,
    Path(id): Path<DeviceId>,
) -> Result<Tagged<Device>> {
    customer::get(app.db(), &caller, &id).await.map(Tagged)
}
