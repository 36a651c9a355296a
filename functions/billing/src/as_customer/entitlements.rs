//! Shows what a customer may use.

use axum::extract::State;
use shared::Result;
use shared::base::ids::TenantId;
use shared::domain::entitlements::model::Entitlements;
use shared::domain::{entitlements, tenants};
use shared::http::app::CustomerApp;
use shared::http::{Json, Operator, Path};

/// What the tenant may use and uses, as its customers see it
#[utoipa::path(get, path = "/api/v1/operator/tenants/{tenant_id}/customer/entitlements",
    tag = "as customer", operation_id = "view_entitlements",
    responses((status = 200, description = "As the customer sees it", body = Entitlements),
        (status = 404, description = "`tenant_not_found`"),
        (status = 409, description = "`tenant_deleted`")))]
pub(crate) async fn get(
    State(app): State<CustomerApp>,
    Operator(by): Operator,
    Path(id): Path<TenantId>,
) -> Result<Json<Entitlements>> {
    let caller = tenants::customer::seen_by(app.db(), by, id).await?;
    entitlements::get(app.db(), &caller.tenant).await.map(Json)
}
