//! Lists the flags.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::paging::Page;
use shared::domain::flags;
use shared::domain::flags::model::{FlagFilter, FlagRow};
use shared::http::app::OperatorApp;
use shared::http::{Json, Operator, Query};
use utoipa::ToSchema;

/// A page of flags.
#[derive(Serialize, ToSchema)]
pub(crate) struct FlagList {
    flags: Vec<FlagRow>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// What an operator should look at, newest first; only open flags, unless `status` says otherwise
#[utoipa::path(get, path = "/api/v1/operator/flags", tag = "operations", operation_id =
    "list_flags", params(FlagFilter),
    responses((status = 200, description = "A page", body = FlagList)))]
pub(crate) async fn list(
    State(app): State<OperatorApp>,
    _: Operator,
    Query(filter): Query<FlagFilter>,
) -> Result<Json<FlagList>> {
    let page = Page::new(filter.limit, filter.offset, filter.cursor.clone())?;
    let slice = flags::list(app.db(), &filter, &page).await?;
    Ok(Json(FlagList {
        count: slice.items.len(),
        flags: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
