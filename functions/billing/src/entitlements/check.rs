//! Checks a limit.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Consumer;
use shared::domain::entitlements;
use shared::domain::entitlements::model::{Allowed, Check};
use shared::http::app::CustomerApp;
use shared::http::{Body, Json};

/// Says whether so many more of something are allowed. Other services call it before they create a
/// device, an alert rule or a user
#[utoipa::path(post, path = "/api/v1/customer/entitlements/check", tag = "entitlements",
    operation_id = "check_entitlement", request_body = Check,
    security(("token" = ["customer", "service"])),
    responses((status = 200, description = "Allowed", body = Allowed),
        (status = 402, description = "`limit_reached`, with `limit`, `used` and `remaining`; \
            `feature_not_in_plan`"),
        (status = 404, description = "`subscription_not_found`")))]
pub(crate) async fn check(
    State(app): State<CustomerApp>,
    caller: Consumer,
    Body(asked): Body<Check>,
) -> Result<Json<Allowed>> {
    let tenant = caller.tenant(asked.tenant_id.clone())?;
    entitlements::check(app.db(), &tenant, asked).await.map(Json)
}
