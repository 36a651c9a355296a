//! Opens Stripe's billing portal.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::domain::billing;
use shared::domain::billing::model::{NewPortal, Portal};
use shared::http::{Body, Json};

use crate::app::BillingApp;

/// Opens Stripe's billing portal: payment methods, invoices, and the end of subscriptions
#[utoipa::path(post, path = "/api/v1/customer/billing/portal", tag = "billing", operation_id =
    "open_portal", request_body = NewPortal,
    responses((status = 200, description = "Opened", body = Portal),
        (status = 409,
            description = "`no_billing_account`, `billing_account_gone`, `stripe_refused`"),
        (status = 502, description = "`upstream`: Stripe failed or did not answer")))]
pub(crate) async fn open(
    State(app): State<BillingApp>,
    caller: Customer,
    Body(wanted): Body<NewPortal>,
) -> Result<Json<Portal>> {
    billing::portal(&app.till(), &caller, &wanted).await.map(Json)
}
