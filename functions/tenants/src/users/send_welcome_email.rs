//! Sends the mail with which a user sets a password.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::base::ids::UserId;
use shared::domain::users;
use shared::http::{Admin, Json, Path};
use utoipa::ToSchema;

use crate::app::TenantsApp;

/// The answer once Keycloak has sent the mail.
#[derive(Serialize, ToSchema)]
pub(crate) struct Sent {
    status: &'static str,
    message: &'static str,
}

/// Sends the user a mail with a link to set a password; each request sends another one
#[utoipa::path(post, path = "/api/v1/operator/users/{user_id}/send-welcome-email", tag = "users",
    operation_id = "send_welcome_email",
    responses((status = 200, description = "Keycloak has sent it", body = Sent),
        (status = 404, description = "`user_not_found`"),
        (status = 409, description = "`user_disabled`"),
        (status = 502, description = "`upstream`")))]
pub(crate) async fn send(
    State(app): State<TenantsApp>,
    Admin(by): Admin,
    Path(id): Path<UserId>,
) -> Result<Json<Sent>> {
    users::send_welcome_mail(app.operator.db(), &app.keycloak, &by, &id, app.operator.now())
        .await?;
    Ok(Json(Sent { status: "ok", message: "Password-set email sent" }))
}
