//! Adds a user.

use axum::extract::State;
use shared::Result;
use shared::domain::users;
use shared::domain::users::model::{NewUser, User};
use shared::http::{Admin, Created, Idempotent};

use crate::app::TenantsApp;

/// Adds a user of a tenant. To log in, the user needs the welcome mail
#[utoipa::path(post, path = "/api/v1/operator/users", tag = "users", operation_id = "create_user",
    request_body = NewUser,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, description = "Added", body = User), (status = 404, description =
        "`tenant_not_found`"),
        (status = 409, description = "`tenant_deleted`, `user_exists`, `request_in_progress`"),
        (status = 502, description = "`upstream`")))]
pub(crate) async fn create(
    State(app): State<TenantsApp>,
    Admin(by): Admin,
    Idempotent(key, new): Idempotent<NewUser>,
) -> Result<Created<User>> {
    let (db, clock) = (app.operator.db(), app.operator.clock());
    users::create(db, &app.keycloak, &by, key.as_ref(), new, clock).await.map(Created)
}
