//! Notes when devices were last heard of.

use axum::extract::State;
use shared::Result;
use shared::domain::devices;
use shared::domain::devices::model::{SeenCounts, Sightings};
use shared::http::app::OperatorApp;
use shared::http::{Body, Json, Service};

/// Notes when devices were last heard of; a time before the one that is known changes nothing
#[utoipa::path(post, path = "/api/v1/service/devices/last-seen", tag = "devices", operation_id =
    "see_devices", request_body = Sightings,
    responses((status = 200, description = "Noted", body = SeenCounts)))]
pub(crate) async fn see(
    State(app): State<OperatorApp>,
    _: Service,
    Body(wanted): Body<Sightings>,
) -> Result<Json<SeenCounts>> {
    devices::service::see(app.db(), &wanted, app.now()).await.map(Json)
}
