//! Deletes a tenant.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::ids::TenantId;
use shared::base::version::IfMatch;
use shared::domain::tenants;
use shared::http::app::OperatorApp;
use shared::http::{Admin, Json, Path};
use utoipa::ToSchema;

/// What was deleted.
#[derive(Serialize, ToSchema)]
pub(crate) struct Deletion {
    status: &'static str,
    tenant_id: TenantId,
}

/// Marks a tenant without a live subscription as deleted; its id is never reused
#[utoipa::path(delete, path = "/api/v1/operator/tenants/{tenant_id}", tag = "tenants",
    operation_id = "delete_tenant",
    params(("If-Match" = Option<String>, Header)),
    responses((status = 200, description = "It is deleted, now or before", body = Deletion),
        (status = 404, description = "`tenant_not_found`"),
        (status = 409, description = "`live_subscription`"), (status = 412, description =
            "`version_changed`")))]
pub(crate) async fn delete(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<TenantId>,
    if_match: IfMatch,
) -> Result<Json<Deletion>> {
    tenants::operator::delete(app.db(), &by, &id, &if_match, app.now()).await?;
    Ok(Json(Deletion { status: "ok", tenant_id: id }))
}
