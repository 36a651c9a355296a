//! Lists the audit trail.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::paging::Page;
use shared::domain::audit;
use shared::domain::audit::model::{AuditFilter, AuditRow};
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Query};
use utoipa::ToSchema;

/// A page of the audit trail.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditList {
    audit: Vec<AuditRow>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// Who changed what and when, newest first
#[utoipa::path(get, path = "/api/v1/operator/audit", tag = "operations", operation_id =
    "list_audit", params(AuditFilter),
    responses((status = 200, description = "A page", body = AuditList)))]
pub(crate) async fn list(
    State(app): State<OperatorApp>,
    _: Operator,
    Query(filter): Query<AuditFilter>,
) -> Result<Json<AuditList>> {
    let page = Page::new(filter.limit, filter.offset, filter.cursor.clone())?;
    let slice = audit::list(app.db(), &filter, &page).await?;
    Ok(Json(AuditList {
        count: slice.items.len(),
        audit: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
