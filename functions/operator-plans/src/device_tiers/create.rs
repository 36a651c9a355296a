//! Adds a device tier.

use axum::extract::State;
use shared::Result;
use shared::domain::tiers;
use shared::domain::tiers::model::{NewTier, Tier};
use shared::http::app::OperatorApp;
use shared::http::{Admin, CreatedTagged, Idempotent};

/// Adds a device tier
#[utoipa::path(post, path = "/api/v1/operator/device-tiers", tag = "device tiers", operation_id =
    "create_device_tier", request_body = NewTier,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, description = "Added", body = Tier), (status = 409, description =
        "`tier_exists`, `price_taken`, `request_in_progress`")))]
pub(crate) async fn create(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Idempotent(key, new): Idempotent<NewTier>,
) -> Result<CreatedTagged<Tier>> {
    let tier = tiers::operator::create(app.db(), &by, key.as_ref(), new, app.now()).await?;
    Ok(CreatedTagged {
        location: format!("/api/v1/operator/device-tiers/{}", tier.tier_id),
        resource: tier,
    })
}
