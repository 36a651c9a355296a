//! Shows the own company.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::domain::tenants::customer;
use shared::domain::tenants::model::Organization;
use shared::http::Tagged;
use shared::http::app::CustomerApp;

/// The own company's profile
#[utoipa::path(get, path = "/api/v1/customer/organization", tag = "organization", operation_id =
    "get_organization",
    responses((status = 200, description = "The profile", body = Organization)))]
pub(crate) async fn get(
    State(app): State<CustomerApp>,
    caller: Customer,
) -> Result<Tagged<Organization>> {
    customer::get(app.db(), &caller).await.map(Tagged)
}
