//! Removes an own device's tier.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::base::ids::DeviceId;
use shared::domain::devices::customer;
use shared::domain::devices::model::TierChange;
use shared::http::app::CustomerApp;
use shared::http::{Json, Path};

/// Removes a device's tier, which frees its slot
#[utoipa::path(delete, path = "/api/v1/customer/devices/{device_id}/tier", tag = "own devices",
    operation_id = "remove_tier",
    responses((status = 200, description = "The device has no tier", body = TierChange),
        (status = 404, description = "`device_not_found`")))]
pub(crate) async fn remove_tier(
    State(app): State<CustomerApp>,
    caller: Customer,
    Path(id): Path<DeviceId>,
) -> Result<Json<TierChange>> {
    customer::remove_tier(app.db(), &caller, &id, app.now()).await.map(Json)
}
