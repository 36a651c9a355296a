//! Enables or disables a user.

use axum::extract::State;
use shared::Result;
use shared::base::ids::UserId;
use shared::domain::users;
use shared::domain::users::model::{User, UserUpdate};
use shared::http::{Admin, Body, Json, Path};

use crate::app::TenantsApp;

/// Enables or disables a user of a tenant
#[utoipa::path(patch, path = "/api/v1/operator/users/{user_id}", tag = "users", operation_id =
    "update_user", request_body = UserUpdate,
    responses((status = 200, description = "As it is now", body = User),
        (status = 404, description = "`user_not_found`"),
        (status = 502, description = "`upstream`")))]
pub(crate) async fn update(
    State(app): State<TenantsApp>,
    Admin(by): Admin,
    Path(id): Path<UserId>,
    Body(update): Body<UserUpdate>,
) -> Result<Json<User>> {
    users::set_enabled(
        app.operator.db(),
        &app.keycloak,
        &by,
        &id,
        update.enabled,
        app.operator.clock(),
    )
    .await
    .map(Json)
}
