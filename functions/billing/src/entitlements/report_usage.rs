//! Takes reports of use.

use axum::extract::State;
use shared::Result;
use shared::domain::usage;
use shared::domain::usage::model::{TenantUsage, UsageReport};
use shared::http::app::CustomerApp;
use shared::http::{Body, Json, Service};

/// Keeps how many a tenant has of what its plans limit by name, as a service counted them. A report
/// that is older than what is known changes nothing
#[utoipa::path(put, path = "/api/v1/customer/entitlements/usage", tag = "entitlements",
    operation_id = "report_usage", request_body = UsageReport,
    security(("token" = ["service"])),
    responses((status = 200, description = "What is known now", body = TenantUsage)))]
pub(crate) async fn report(
    State(app): State<CustomerApp>,
    _: Service,
    Body(report): Body<UsageReport>,
) -> Result<Json<TenantUsage>> {
    usage::report(app.db(), report, app.now()).await.map(Json)
}
