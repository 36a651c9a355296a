//! Shows a tenant.

use axum::extract::State;
use shared::Result;
use shared::base::ids::TenantId;
use shared::domain::tenants;
use shared::domain::tenants::model::Tenant;
use shared::http::app::OperatorApp;
use shared::http::{Operator, Path, Tagged};

/// A tenant, also a deleted one, with the `ETag` that a change of it may name
#[utoipa::path(get, path = "/api/v1/operator/tenants/{tenant_id}", tag = "tenants", operation_id =
    "get_tenant",
    responses((status = 200, description = "The tenant", body = Tenant),
        (status = 404, description = "`tenant_not_found`")))]
pub(crate) async fn get(
    State(app): State<OperatorApp>,
    _: Operator,
    Path(id): Path<TenantId>,
) -> Result<Tagged<Tenant>> {
    tenants::operator::get(app.db(), &id).await.map(Tagged)
}
