//! Takes an own device out of use.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::base::ids::DeviceId;
use shared::domain::devices::customer;
use shared::domain::devices::model::Decommissioned;
use shared::http::app::CustomerApp;
use shared::http::{Json, Path};

/// Takes a device out of use, which frees its place and its slot
#[utoipa::path(delete, path = "/api/v1/customer/devices/{device_id}", tag = "own devices",
    operation_id = "decommission_own_device",
    responses((status = 200, description = "Out of use", body = Decommissioned),
        (status = 404, description = "`device_not_found`")))]
pub(crate) async fn decommission(
    State(app): State<CustomerApp>,
    caller: Customer,
    Path(id): Path<DeviceId>,
) -> Result<Json<Decommissioned>> {
    customer::decommission(app.db(), &caller, &id, app.now()).await?;
    Ok(Json(Decommissioned { status: "ok", device_id: id }))
}
