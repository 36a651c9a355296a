//! Finds what an operator has in hand.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::domain::search;
use shared::domain::search::model::{Hit, SearchRequest};
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Query};
use utoipa::ToSchema;

/// What was found.
#[derive(Serialize, ToSchema)]
pub(crate) struct Hits {
    /// What is that by its id comes first.
    hits: Vec<Hit>,
}

/// Tenants, subscriptions, devices and Stripe's events by an id, a mail address or a name
#[utoipa::path(get, path = "/api/v1/operator/search", tag = "operations", operation_id = "search",
    params(SearchRequest),
    responses((status = 200, description = "What is called so", body = Hits)))]
pub(crate) async fn find(
    State(app): State<OperatorApp>,
    _: Operator,
    Query(request): Query<SearchRequest>,
) -> Result<Json<Hits>> {
    Ok(Json(Hits { hits: search::find(app.db(), &request).await? }))
}
