//! Registers a device for a tenant.

use axum::extract::State;
use shared::Result;
use shared::domain::devices;
use shared::domain::devices::model::{Device, NewDevice};
use shared::http::app::OperatorApp;
use shared::http::{Admin, CreatedTagged, Idempotent};

/// Registers a device for a tenant
#[utoipa::path(post, path = "/api/v1/operator/devices", tag = "devices", operation_id =
    "register_device", request_body = NewDevice,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, description = "Registered", body = Device),
        (status = 402, description = "`device_limit_reached`, `subscription_not_live`"),
        (status = 404, description = "`tenant_not_found`, `subscription_not_found`"),
        (status = 409, description = "`device_exists`, `tenant_deleted`, `request_in_progress`")))]
pub(crate) async fn register(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Idempotent(key, new): Idempotent<NewDevice>,
) -> Result<CreatedTagged<Device>> {
    let resource = devices::operator::register(app.db(), &by, key.as_ref(), new, app.now()).await?;
    let location =
        format!("/api/v1/operator/tenants/{}/devices/{}", resource.tenant_id, resource.device_id);
    Ok(CreatedTagged { location, resource })
}
