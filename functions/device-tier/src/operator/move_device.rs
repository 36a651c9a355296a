//! Moves a device to another subscription.

use axum::extract::State;
use shared::Result;
use shared::base::ids::DeviceId;
use shared::domain::devices;
use shared::domain::devices::model::{Move, MoveResult};
use shared::http::app::OperatorApp;
use shared::http::{Admin, Body, Json, Path};

/// Moves a device to another subscription of its tenant; its slot moves with it
#[utoipa::path(post, path = "/api/v1/operator/devices/{device_id}/subscription", tag = "devices",
    operation_id = "move_device", request_body = Move,
    responses((status = 200, description = "Moved", body = MoveResult),
        (status = 400,
            description = "`subscription_of_another_tenant`, `subscription_not_live`, \
                `device_limit_reached`"),
        (status = 404, description = "`device_not_found`, `subscription_not_found`"),
        (status = 409, description = "`device_ambiguous`, `no_free_slot`")))]
pub(crate) async fn move_device(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<DeviceId>,
    Body(wanted): Body<Move>,
) -> Result<Json<MoveResult>> {
    devices::operator::move_to(app.db(), &by, &id, wanted, app.now()).await.map(Json)
}
