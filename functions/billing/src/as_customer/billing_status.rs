//! Shows what a customer sees of their subscriptions.

use axum::extract::State;
use shared::Result;
use shared::base::ids::TenantId;
use shared::domain::billing::model::BillingStatus;
use shared::domain::{billing, tenants};
use shared::http::app::CustomerApp;
use shared::http::{Json, Operator, Path};

/// The tenant's subscriptions and slots, as its customers see them
#[utoipa::path(get, path = "/api/v1/operator/tenants/{tenant_id}/customer/billing/status",
    tag = "as customer", operation_id = "view_billing_status",
    responses((status = 200, description = "As the customer sees it", body = BillingStatus),
        (status = 404, description = "`tenant_not_found`"),
        (status = 409, description = "`tenant_deleted`")))]
pub(crate) async fn get(
    State(app): State<CustomerApp>,
    Operator(by): Operator,
    Path(id): Path<TenantId>,
) -> Result<Json<BillingStatus>> {
    let caller = tenants::customer::seen_by(app.db(), by, id).await?;
    billing::status(app.db(), &caller).await.map(Json)
}
