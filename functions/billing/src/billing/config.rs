//! Shows the offer.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::domain::billing;
use shared::domain::billing::model::BillingConfig;
use shared::http::Json;

use crate::app::BillingApp;

/// The plans on sale, and Stripe's key for pages
#[utoipa::path(get, path = "/api/v1/customer/billing/config", tag = "billing", operation_id =
    "get_billing_config",
    responses((status = 200, description = "All of them", body = BillingConfig)))]
pub(crate) async fn config(
    State(app): State<BillingApp>,
    caller: Customer,
) -> Result<Json<BillingConfig>> {
    billing::config(app.customer.db(), &app.publishable_key, &caller).await.map(Json)
}
