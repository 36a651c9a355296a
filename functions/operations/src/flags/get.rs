//! Shows a flag.

use axum::extract::State;
use shared::Result;
use shared::domain::flags;
use shared::domain::flags::model::FlagRow;
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Path};

/// A flag, also a resolved one
#[utoipa::path(get, path = "/api/v1/operator/flags/{flag_id}", tag = "operations",
    operation_id = "get_flag",
    responses((status = 200, description = "As it is", body = FlagRow),
        (status = 404, description = "`flag_not_found`")))]
pub(crate) async fn get(
    State(app): State<OperatorApp>,
    _: Operator,
    Path(id): Path<i64>,
) -> Result<Json<FlagRow>> {
    flags::get(app.db(), id).await.map(Json)
}
