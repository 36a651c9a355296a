//! Lists a tenant's users.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::paging::Page;
use shared::domain::users;
use shared::domain::users::model::{User, UserFilter};
use shared::http::{Json, Operator, Query};
use utoipa::ToSchema;

use crate::app::TenantsApp;

/// A page of users.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserList {
    users: Vec<User>,
    /// How many items this page has.
    count: usize,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// A tenant's users, by user name
#[utoipa::path(get, path = "/api/v1/operator/users", tag = "users", operation_id = "list_users",
    params(UserFilter),
    responses((status = 200, description = "A page", body = UserList),
        (status = 404, description = "`tenant_not_found`"),
        (status = 502, description = "`upstream`")))]
pub(crate) async fn list(
    State(app): State<TenantsApp>,
    _: Operator,
    Query(filter): Query<UserFilter>,
) -> Result<Json<UserList>> {
    let page = Page::new(filter.limit, filter.offset, filter.cursor)?;
    let slice = users::list(app.operator.db(), &app.keycloak, &filter.tenant_id, &page).await?;
    Ok(Json(UserList {
        count: slice.items.len(),
        users: slice.items,
        next_cursor: slice.next_cursor,
    }))
}
