//! Registers an own device.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::domain::devices::customer;
use shared::domain::devices::model::{Device, OwnDevice};
use shared::http::app::CustomerApp;
use shared::http::{CreatedTagged, Idempotent};

/// Registers a device within the device limit
#[utoipa::path(post, path = "/api/v1/customer/devices", tag = "own devices", operation_id =
    "register_own_device", request_body = OwnDevice,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, description = "Registered", body = Device),
        (status = 402,
            description =
                "`device_limit_reached`, `subscription_not_live`, `no_live_subscription`"),
        (status = 404, description = "`subscription_not_found`"), (status = 409, description =
            "`device_exists`, `request_in_progress`")))]
pub(crate) async fn register(
    State(app): State<CustomerApp>,
    caller: Customer,
    Idempotent(key, new): Idempotent<OwnDevice>,
) -> Result<CreatedTagged<Device>> {
    let resource = customer::register(app.db(), &caller, key.as_ref(), new, app.now()).await?;
    let location = format!("/api/v1/customer/devices/{}", resource.device_id);
    Ok(CreatedTagged { location, resource })
}
