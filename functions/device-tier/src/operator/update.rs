//! Renames a device of a tenant.

use axum::extract::State;
use shared::Result;
use shared::base::ids::{DeviceId, TenantId};
use shared::base::version::IfMatch;
use shared::domain::devices::model::{Device, DeviceUpdate};
use shared::domain::devices::operator;
use shared::http::app::OperatorApp;
use shared::http::{Admin, Body, Path, Updated};

/// Changes the name and the site of a tenant's device
#[utoipa::path(patch, path = "/api/v1/operator/tenants/{tenant_id}/devices/{device_id}",
    tag = "devices", operation_id = "update_device", request_body = DeviceUpdate,
    params(("If-Match" = Option<String>, Header)),
    responses((status = 200, description = "As it is now", body = Updated<Device>),
        (status = 404, description = "`device_not_found`")))]
pub(crate) async fn update(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path((tenant, id)): Path<(TenantId, DeviceId)>,
    if_match: IfMatch,
    Body(update): Body<DeviceUpdate>,
) -> Result<Updated<Device>> {
    let device = operator::update(app.db(), &by, (&tenant, &id), &if_match, update, app.now());
    device.await.map(Updated::ok)
}
