//! Shows the company's subscriptions.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::domain::billing;
use shared::domain::billing::model::BillingStatus;
use shared::http::Json;
use shared::http::app::CustomerApp;

/// The own subscriptions that have not ended, with their slots, and whether a Stripe
/// customer is linked
#[utoipa::path(get, path = "/api/v1/customer/billing/status", tag = "billing", operation_id =
    "get_billing_status",
    responses((status = 200, description = "As it is", body = BillingStatus)))]
pub(crate) async fn status(
    State(app): State<CustomerApp>,
    caller: Customer,
) -> Result<Json<BillingStatus>> {
    billing::status(app.db(), &caller).await.map(Json)
}
