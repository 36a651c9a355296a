//! Adds a tenant.

use axum::extract::State;
use shared::Result;
use shared::domain::tenants;
use shared::domain::tenants::model::{NewTenant, Tenant};
use shared::http::app::OperatorApp;
use shared::http::{Admin, CreatedTagged, Idempotent};

/// Adds a tenant
#[utoipa::path(post, path = "/api/v1/operator/tenants", tag = "tenants", operation_id =
    "create_tenant", request_body = NewTenant,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, description = "Added", body = Tenant), (status = 409, description =
        "`tenant_exists`, `customer_taken`, `request_in_progress`")))]
pub(crate) async fn create(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Idempotent(key, new): Idempotent<NewTenant>,
) -> Result<CreatedTagged<Tenant>> {
    let tenant = tenants::operator::create(app.db(), &by, key.as_ref(), new, app.now()).await?;
    Ok(CreatedTagged {
        location: format!("/api/v1/operator/tenants/{}", tenant.tenant_id),
        resource: tenant,
    })
}
