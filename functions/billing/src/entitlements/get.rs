//! Shows limits and use.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Consumer;
use shared::domain::entitlements;
use shared::domain::entitlements::model::{Entitlements, ForTenant};
use shared::http::app::CustomerApp;
use shared::http::{Json, Query};

/// The pooled limits and use of every family of subscriptions, and of all together
#[utoipa::path(get, path = "/api/v1/customer/entitlements", tag = "entitlements", operation_id =
    "get_entitlements", params(ForTenant),
    security(("token" = ["customer", "service"])), responses((status = 200, description =
        "All of them", body = Entitlements)))]
pub(crate) async fn get(
    State(app): State<CustomerApp>,
    caller: Consumer,
    Query(of): Query<ForTenant>,
) -> Result<Json<Entitlements>> {
    let tenant = caller.tenant(of.tenant_id)?;
    entitlements::get(app.db(), &tenant).await.map(Json)
}
