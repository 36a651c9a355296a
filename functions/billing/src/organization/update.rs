//! Changes the own company's profile.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::base::version::IfMatch;
use shared::domain::tenants::customer;
use shared::domain::tenants::model::{Organization, OrganizationUpdate};
use shared::http::app::CustomerApp;
use shared::http::{Body, Tagged};

/// Changes the fields in the body; a customer cannot change Stripe's ids, the support tier and the
/// status
#[utoipa::path(put, path = "/api/v1/customer/organization", tag = "organization", operation_id =
    "update_organization", request_body = OrganizationUpdate,
    params(("If-Match" = Option<String>, Header)),
    responses((status = 200, description = "As it is now", body = Organization),
        (status = 400, description = "`no_fields`, `malformed_json`"),
        (status = 412, description = "`version_changed`")))]
pub(crate) async fn update(
    State(app): State<CustomerApp>,
    caller: Customer,
    if_match: IfMatch,
    Body(update): Body<OrganizationUpdate>,
) -> Result<Tagged<Organization>> {
    customer::update(app.db(), &caller, &if_match, update, app.now()).await.map(Tagged)
}
