//! Changes a device's tier beyond the limits.

use axum::extract::State;
use shared::Result;
use shared::domain::devices;
use shared::domain::devices::model::{Override, OverrideResult};
use shared::http::app::OperatorApp;
use shared::http::{Admin, Body, Json};

/// Gives a device a tier or removes it, whatever the limits are; the slot counts all the same
#[utoipa::path(put, path = "/api/v1/operator/devices/tier", tag = "devices", operation_id =
    "override_tier", request_body = Override,
    responses((status = 200, description = "Done", body = OverrideResult),
        (status = 400, description = "`no_subscription`"),
        (status = 404, description = "`device_not_found`, `tier_not_found`")))]
pub(crate) async fn override_tier(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Body(wanted): Body<Override>,
) -> Result<Json<OverrideResult>> {
    devices::operator::override_tier(app.db(), &by, wanted, app.now()).await.map(Json)
}
