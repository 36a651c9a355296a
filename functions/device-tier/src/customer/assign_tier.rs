//! Gives an own device a tier.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::base::ids::DeviceId;
use shared::domain::devices::customer;
use shared::domain::devices::model::{TierAssignment, TierChange};
use shared::http::app::CustomerApp;
use shared::http::{Body, Json, Path};

/// Gives a device a tier, if a slot of it is free
#[utoipa::path(put, path = "/api/v1/customer/devices/{device_id}/tier", tag = "own devices",
    operation_id = "assign_tier", request_body = TierAssignment,
    responses((status = 200, description = "The device has the tier", body = TierChange),
        (status = 400, description = "`no_subscription`"),
        (status = 402, description = "`subscription_not_live`, `tier_not_in_plan`, `no_free_slot`"),
        (status = 404, description = "`device_not_found`, `tier_not_found`")))]
pub(crate) async fn assign_tier(
    State(app): State<CustomerApp>,
    caller: Customer,
    Path(id): Path<DeviceId>,
    Body(wanted): Body<TierAssignment>,
) -> Result<Json<TierChange>> {
    customer::assign_tier(app.db(), &caller, &id, wanted.tier_id.get_i32(), app.now())
        .await
        .map(Json)
}
