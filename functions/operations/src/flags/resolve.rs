//! Resolves a flag.

use axum::extract::State;
use shared::Result;
use shared::domain::flags;
use shared::domain::flags::model::{FlagRow, Resolution};
use shared::http::app::OperatorApp;
use shared::http::{Admin, Body, Json, Path};

/// Resolves an open flag with a note; nothing else changes
#[utoipa::path(post, path = "/api/v1/operator/flags/{flag_id}/resolve", tag = "operations",
    operation_id = "resolve_flag", request_body = Resolution,
    responses((status = 200, description = "As it is now", body = FlagRow),
        (status = 404, description = "`flag_not_found`"),
        (status = 409, description = "`flag_resolved`: by whom and when")))]
pub(crate) async fn resolve(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Path(id): Path<i64>,
    Body(resolution): Body<Resolution>,
) -> Result<Json<FlagRow>> {
    flags::resolve(app.db(), &by, id, resolution.note, app.now()).await.map(Json)
}
