//! Shows the breaker.

use axum::extract::State;
use shared::Result;
use shared::domain::renewals::operator;
use shared::domain::renewals::operator::model::BreakerState;
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator};

/// Whether a run would stop now because too many subscriptions would lose access, by which numbers,
/// and which approval stands
#[utoipa::path(get, path = "/api/v1/operator/renewals/breaker", tag = "operations",
    operation_id = "get_breaker",
    responses((status = 200, description = "As it is at this moment", body = BreakerState)))]
pub(crate) async fn get(State(app): State<OperatorApp>, _: Operator) -> Result<Json<BreakerState>> {
    operator::breaker(app.db(), app.now()).await.map(Json)
}
