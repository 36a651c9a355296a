//! Says whether the database answers, and what is not filled in yet.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::http::Json;
use utoipa::ToSchema;

use crate::OperationsApp;

/// How long the database may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long an answer of the database counts: anybody may ask, however often.
const COUNTS: Duration = Duration::from_secs(2);

/// The answer of a healthy system.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`, or `incomplete` while something is missing.
    status: &'static str,
    /// The fields of operators' secret that are not filled in yet.
    missing: Vec<&'static str>,
}

/// 200 while the database answers
#[utoipa::path(get, path = "/health", tag = "operations", operation_id = "health", security(()),
    responses((status = 200, description = "It answers", body = Health),
        (status = 503, description = "`unavailable`: it does not")))]
pub(crate) async fn health(State(app): State<OperationsApp>) -> Result<Json<Health>> {
    let last = *app.healthy().lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_none_or(|last| last.elapsed() >= COUNTS) {
        let db = app.operator.db();
        let answer = async { Ok(db.connection().await?.simple_query("").await.map(drop)?) };
        db.bounded(PATIENCE, answer).await?;
        *app.healthy().lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
    let secrets = app.operator.secrets();
    // Filled in since this instance read it?
    if !secrets.unfilled().is_empty() {
        secrets.refresh().await?;
    }
    let missing = secrets.unfilled();
    let status = if missing.is_empty() { "ok" } else { "incomplete" };
    Ok(Json(Health { status, missing }))
}
