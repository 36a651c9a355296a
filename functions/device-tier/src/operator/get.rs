//! Shows a device of a tenant.

use axum::extract::State;
use shared::Result;
use shared::base::ids::{DeviceId, TenantId};
use shared::domain::devices::model::Device;
use shared::domain::devices::operator;
use shared::http::app::OperatorApp;
use shared::http::{Operator, Path, Tagged};

/// A tenant's device, also one that is out of use
#[utoipa::path(get, path = "/api/v1/operator/tenants/{tenant_id}/devices/{device_id}",
    tag = "devices", operation_id = "get_device",
    responses((status = 200, description = "The device", body = Device),
        (status = 404, description = "`device_not_found`")))]
pub(crate) async fn get(
    State(app): State<OperatorApp>,
    _: Operator,
    Path((tenant, id)): Path<(TenantId, DeviceId)>,
) -> Result<Tagged<Device>> {
    operator::get(app.db(), &tenant, &id).await.map(Tagged)
}
