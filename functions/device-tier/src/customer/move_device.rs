//! Moves an own device to another subscription.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::base::ids::DeviceId;
use shared::domain::devices::customer;
use shared::domain::devices::model::{MoveResult, OwnMove};
use shared::http::app::CustomerApp;
use shared::http::{Body, Json, Path};

/// Moves a device to another subscription of the caller's tenant; its slot moves with it
#[utoipa::path(post, path = "/api/v1/customer/devices/{device_id}/subscription", tag =
    "own devices", operation_id = "move_own_device", request_body = OwnMove,
    responses((status = 200, description = "Moved", body = MoveResult),
        (status = 400, description = "`subscription_not_live`, `device_limit_reached`"),
        (status = 404, description = "`device_not_found`, `subscription_not_found`"),
        (status = 409, description = "`no_free_slot`")))]
pub(crate) async fn move_device(
    State(app): State<CustomerApp>,
    caller: Customer,
    Path(id): Path<DeviceId>,
    Body(wanted): Body<OwnMove>,
) -> Result<Json<MoveResult>> {
    customer::move_to(app.db(), &caller, &id, &wanted.subscription_id, app.now()).await.map(Json)
}
