//! Shows who calls.

use axum::extract::State;
use serde::Serialize;
use shared::Result;
use shared::domain::tenants;
use shared::domain::tenants::model::{TenantStatus, TenantSummary};
use shared::http::app::CustomerApp;
use shared::http::{Anyone, Json};
use utoipa::ToSchema;

/// The roles that open a route of this API; a token may have others.
const ROLES: [&str; 4] = ["customer", "operator", "operator_admin", "service"];

/// Who calls, by their token.
#[derive(Serialize, ToSchema)]
pub(crate) struct Me {
    /// Their id at the issuer.
    sub: String,
    /// Those of `customer`, `operator`, `operator_admin` and `service` that they have.
    roles: Vec<&'static str>,
    /// A customer's; none of others, and none if it never existed.
    tenant: Option<TenantSummary>,
    /// What these allow.
    may: May,
}

/// What a caller may do.
#[derive(Serialize, ToSchema)]
pub(crate) struct May {
    /// Change anything: as `operator_admin`, as `customer` of a tenant that is in use, or as
    /// `service`.
    write: bool,
}

/// Who calls: their roles, their tenant, also a deleted one, and whether they may change anything
#[utoipa::path(get, path = "/api/v1/me", tag = "billing", operation_id = "get_me",
    security(("token" = ["customer"]), ("token" = ["operator"]), ("token" = ["service"])),
    responses((status = 200, description = "As the token says", body = Me)))]
pub(crate) async fn get(
    State(app): State<CustomerApp>,
    Anyone(caller): Anyone,
) -> Result<Json<Me>> {
    let own = caller.tenant.as_ref().filter(|_| caller.has("customer"));
    let tenant = match own {
        Some(id) => tenants::customer::summary(app.db(), id).await?,
        None => None,
    };
    let in_use = tenant.as_ref().is_some_and(|tenant| tenant.status == TenantStatus::Active);
    let write = in_use || caller.has("operator_admin") || caller.has("service");
    let roles = ROLES.into_iter().filter(|role| caller.has(role)).collect();
    Ok(Json(Me { sub: caller.subject, roles, tenant, may: May { write } }))
}
