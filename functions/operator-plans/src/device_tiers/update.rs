//! Changes a device tier.

use axum::extract::State;
use shared::Result;
use shared::base::version::IfMatch;
use shared::domain::tiers;
use shared::domain::tiers::model::{Tier, TierUpdate};
use shared::http::app::OperatorApp;
use shared::http::{Admin, Body, Path, Updated};

/// Changes the fields in the body
#[utoipa::path(put, path = "/api/v1/operator/device-tiers/{tier_id}", tag = "device tiers",
    operation_id = "update_device_tier",
    request_body = TierUpdate, params(("If-Match" = Option<String>, Header)),
    responses((status = 200, description = "As it is now", body = Updated<Tier>),
        (status = 400, description = "`no_fields`, `malformed_json`"),
        (status = 404, description = "`tier_not_found`"), (status = 409, description =
            "`price_taken`"), (status = 412, description = "`version_changed`")))]
pub(crate) async fn update(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<i32>,
    if_match: IfMatch,
    Body(update): Body<TierUpdate>,
) -> Result<Updated<Tier>> {
    tiers::operator::update(app.db(), &by, id, &if_match, update, app.now()).await.map(Updated::ok)
}
