//! Lists the tenants.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::paging::Page;
use shared::domain::tenants;
use shared::domain::tenants::model::{Tenant, TenantFilter};
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Query};
use utoipa::ToSchema;

/// A page of tenants.
#[derive(Serialize, ToSchema)]
pub(crate) struct TenantList {
    tenants: Vec<Tenant>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// Tenants by id, also deleted ones; a tenant must match all filters
#[utoipa::path(get, path = "/api/v1/operator/tenants", tag = "tenants", operation_id =
    "list_tenants", params(TenantFilter),
    responses((status = 200, description = "A page", body = TenantList)))]
pub(crate) async fn list(
    State(app): State<OperatorApp>,
    _: Operator,
    Query(filter): Query<TenantFilter>,
) -> Result<Json<TenantList>> {
    let page = Page::new(filter.limit, filter.offset, filter.cursor.clone())?;
    let slice = tenants::operator::list(app.db(), &filter, &page).await?;
    Ok(Json(TenantList {
        count: slice.items.len(),
        tenants: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
