//! Changes the tier of many devices beyond the limits.

use axum::extract::State;
use shared::Result;
use shared::domain::allocations::model::Try;
use shared::domain::devices::model::{BulkOverride, Overrides};
use shared::domain::devices::operator;
use shared::http::app::OperatorApp;
use shared::http::{Admin, Body, Json, Query};

/// Gives up to 500 devices of a tenant a tier or removes it, whatever the limits are: of each
/// device that can, with a mark where it is beyond the limit
#[utoipa::path(post, path = "/api/v1/operator/devices/tier-assignments", tag = "devices",
    operation_id = "override_tiers", request_body = BulkOverride, params(Try),
    responses((status = 200, description = "A result for each device", body = Overrides),
        (status = 404, description = "`tier_not_found`")))]
pub(crate) async fn override_tiers(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Query(how): Query<Try>,
    Body(wanted): Body<BulkOverride>,
) -> Result<Json<Overrides>> {
    operator::override_tiers(app.db(), &by, wanted, how.dry_run.0, app.now()).await.map(Json)
}
