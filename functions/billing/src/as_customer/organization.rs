//! Shows what a customer sees of their company.

use axum::extract::State;
use shared::Result;
use shared::base::ids::TenantId;
use shared::domain::tenants;
use shared::domain::tenants::model::Organization;
use shared::http::app::CustomerApp;
use shared::http::{Json, Operator, Path};

/// The tenant's profile, as its customers see it
#[utoipa::path(get, path = "/api/v1/operator/tenants/{tenant_id}/customer/organization",
    tag = "as customer", operation_id = "view_organization",
    responses((status = 200, description = "As the customer sees it", body = Organization),
        (status = 404, description = "`tenant_not_found`"),
        (status = 409, description = "`tenant_deleted`")))]
pub(crate) async fn get(
    State(app): State<CustomerApp>,
    Operator(by): Operator,
    Path(id): Path<TenantId>,
) -> Result<Json<Organization>> {
    let caller = tenants::customer::seen_by(app.db(), by, id).await?;
    tenants::customer::get(app.db(), &caller).await.map(Json)
}
