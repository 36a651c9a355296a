//! Changes the tier of many own devices.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::domain::allocations::model::Try;
use shared::domain::devices::customer;
use shared::domain::devices::model::{Assignments, Bulk};
use shared::http::app::CustomerApp;
use shared::http::{Body, Json, Query};

/// Gives up to 500 devices a tier or removes it: of each device that can, or of all or none
#[utoipa::path(post, path = "/api/v1/customer/devices/tier-assignments", tag = "own devices",
    operation_id = "assign_tiers", request_body = Bulk, params(Try),
    responses((status = 200, description =
        "A result for each device; `applied` says whether it was done", body = Assignments),
        (status = 404, description = "`tier_not_found`")))]
pub(crate) async fn assign_many(
    State(app): State<CustomerApp>,
    caller: Customer,
    Query(how): Query<Try>,
    Body(wanted): Body<Bulk>,
) -> Result<Json<Assignments>> {
    customer::assign_many(app.db(), &caller, wanted, how.dry_run.0, app.now()).await.map(Json)
}
