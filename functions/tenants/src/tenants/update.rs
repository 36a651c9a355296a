//! Changes a tenant.

use axum::extract::State;
use shared::Result;
use shared::base::ids::TenantId;
use shared::base::version::IfMatch;
use shared::domain::tenants;
use shared::domain::tenants::model::{Tenant, TenantUpdate};
use shared::http::app::OperatorApp;
use shared::http::{Admin, Body, Path, Tagged};

/// Changes the fields in the body
#[utoipa::path(patch, path = "/api/v1/operator/tenants/{tenant_id}", tag = "tenants",
    operation_id = "update_tenant", request_body = TenantUpdate,
    params(("If-Match" = Option<String>, Header)),
    responses((status = 200, description = "As it is now", body = Tenant),
        (status = 400, description = "`no_fields`, `malformed_json`"),
        (status = 404, description = "`tenant_not_found`"), (status = 409, description =
            "`tenant_deleted`, `customer_taken`"),
        (status = 412, description = "`version_changed`")))]
pub(crate) async fn update(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<TenantId>,
    if_match: IfMatch,
    Body(update): Body<TenantUpdate>,
) -> Result<Tagged<Tenant>> {
    tenants::operator::update(app.db(), &by, &id, &if_match, update, app.now()).await.map(Tagged)
}
