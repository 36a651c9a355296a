//! Erases a tenant.

use axum::extract::State;
use shared::Result;
use shared::base::ids::TenantId;
use shared::domain::erasure;
use shared::domain::erasure::model::{Erasure, ErasureRequest};
use shared::http::{Admin, Body, Json, Path};

use crate::app::TenantsApp;

/// Takes what is personal out of a deleted tenant's rows, and deletes its users
#[utoipa::path(post, path = "/api/v1/operator/tenants/{tenant_id}/erase", tag = "tenants",
    operation_id = "erase_tenant", request_body = ErasureRequest,
    responses((status = 200, description = "It is erased, now or before", body = Erasure),
        (status = 404, description = "`tenant_not_found`"),
        (status = 409, description = "`tenant_not_deleted`, `tenant_unfinished`"),
        (status = 502, description = "`upstream`")))]
pub(crate) async fn erase(
    State(app): State<TenantsApp>,
    Admin(by): Admin,
    Path(id): Path<TenantId>,
    Body(request): Body<ErasureRequest>,
) -> Result<Json<Erasure>> {
    let operator = &app.operator;
    erasure::erase(operator.db(), &app.keycloak, &by, &id, request, operator.now()).await.map(Json)
}
