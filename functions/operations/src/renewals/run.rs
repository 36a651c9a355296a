//! Requests a run outside the schedule, or a dry run.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::Result;
use shared::domain::renewals::model::RunRequest;
use shared::domain::renewals::operator;
use shared::domain::renewals::operator::model::RunOutcome;
use shared::domain::renewals::summary::Summary;
use shared::http::{Admin, Body, Json};
use utoipa::ToSchema;

use crate::app::OperationsApp;

/// The answer to a request for a run.
#[derive(Serialize, ToSchema)]
pub(crate) struct Requested {
    /// `requested`: it begins within seconds, and is then the first of `GET
    /// /api/v1/operator/renewals/runs`.
    status: &'static str,
}

/// Says what an hourly run would do now or at another time, or requests one now
#[utoipa::path(post, path = "/api/v1/operator/renewals/run", tag = "operations", operation_id =
    "run_renewals", request_body = RunRequest,
    responses((status = 200, description = "What it would do; nothing is changed",
        body = Summary), (status = 202, description = "Requested", body = Requested),
        (status = 503, description = "`unavailable`: the queue did not take it; try again")))]
pub(crate) async fn run(
    State(app): State<OperationsApp>,
    Admin(by): Admin,
    Body(wanted): Body<RunRequest>,
) -> Result<Response> {
    let (db, queue, now) = (app.operator.db(), app.renewal_queue(), app.operator.now());
    Ok(match operator::run(db, &queue, &by, &wanted, now).await? {
        RunOutcome::DryRun(summary) => Json(summary).into_response(),
        RunOutcome::Requested => {
            (StatusCode::ACCEPTED, Json(Requested { status: "requested" })).into_response()
        }
    })
}
