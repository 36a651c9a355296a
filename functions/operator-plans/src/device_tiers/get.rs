//! Shows a device tier.

use axum::extract::State;
use shared::Result;
use shared::domain::tiers;
use shared::domain::tiers::model::Tier;
use shared::http::app::OperatorApp;
use shared::http::{Operator, Path, Tagged};

/// A device tier, with the `ETag` that a change of it may name
#[utoipa::path(get, path = "/api/v1/operator/device-tiers/{tier_id}", tag = "device tiers",
    operation_id = "get_device_tier",
    responses((status = 200, description = "The device tier", body = Tier),
        (status = 404, description = "`tier_not_found`")))]
pub(crate) async fn get(
    State(app): State<OperatorApp>,
    _: Operator,
    Path(id): Path<i32>,
) -> Result<Tagged<Tier>> {
    tiers::operator::get(app.db(), id).await.map(Tagged)
}
