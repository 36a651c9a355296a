//! Shows a checkout's progress.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::base::ids::StripeSessionId;
use shared::domain::billing;
use shared::domain::billing::model::CheckoutStatus;
use shared::http::{Json, Path};

use crate::app::BillingApp;

/// How far an own checkout has come, for the page to which the payer returns
#[utoipa::path(get, path = "/api/v1/customer/billing/checkout/{session_id}", tag = "billing",
    operation_id = "get_checkout",
    responses((status = 200, description = "As it is", body = CheckoutStatus),
        (status = 404, description = "`session_not_found`"),
        (status = 502, description = "`upstream`: Stripe failed or did not answer")))]
pub(crate) async fn get(
    State(app): State<BillingApp>,
    caller: Customer,
    Path(id): Path<StripeSessionId>,
) -> Result<Json<CheckoutStatus>> {
    billing::checkout_status(&app.till(), &caller, &id).await.map(Json)
}
