//! Takes a device of a tenant out of use.

use axum::extract::State;
use shared::Result;
use shared::base::ids::{DeviceId, TenantId};
use shared::domain::devices::model::Decommissioned;
use shared::domain::devices::operator;
use shared::http::app::OperatorApp;
use shared::http::{Admin, Json, Path};

/// Takes a tenant's device out of use, which frees its place and its slot
#[utoipa::path(delete, path = "/api/v1/operator/tenants/{tenant_id}/devices/{device_id}",
    tag = "devices", operation_id = "decommission_device",
    responses((status = 200, description = "Out of use", body = Decommissioned),
        (status = 404, description = "`device_not_found`")))]
pub(crate) async fn decommission(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path((tenant, id)): Path<(TenantId, DeviceId)>,
) -> Result<Json<Decommissioned>> {
    operator::decommission(app.db(), &by, &tenant, &id, app.now()).await?;
    Ok(Json(Decommissioned { status: "ok", device_id: id }))
}
