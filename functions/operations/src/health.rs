//! Says whether the database answers.

use std::time::Duration;

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::http::Json;
use shared::http::app::OperatorApp;
use utoipa::ToSchema;

/// How long the database may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The answer of a healthy system.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    status: &'static str,
}

/// 200 while the database answers
#[utoipa::path(get, path = "/health", tag = "operations", operation_id = "health", security(()),
    responses((status = 200, description = "It answers", body = Health),
        (status = 503, description = "`unavailable`: it does not")))]
pub(crate) async fn health(State(app): State<OperatorApp>) -> Result<Json<Health>> {
    let db = app.db();
    db.bounded(PATIENCE, async { Ok(db.connection().await?.simple_query("").await.map(drop)?) })
        .await?;
    Ok(Json(Health { status: "ok" }))
}
