//! Opens the checkout of a plan.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::domain::billing;
use shared::domain::billing::model::{Checkout, NewCheckout};
use shared::http::{Idempotent, Json};

use crate::app::BillingApp;

/// Opens a checkout at Stripe; once it is paid, the subscription is created automatically
#[utoipa::path(post, path = "/api/v1/customer/billing/checkout", tag = "billing", operation_id =
    "open_checkout", request_body = NewCheckout,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, description = "Opened", body = Checkout),
        (status = 402, description = "`payment_refused`"),
        (status = 404, description = "`plan_not_found`"),
        (status = 409, description = "`already_subscribed`, `billing_account_gone`, \
            `billing_email_refused`, `price_not_available`, `stripe_refused`, \
            `request_in_progress`"),
        (status = 502, description = "`upstream`: Stripe failed or did not answer")))]
pub(crate) async fn open(
    State(app): State<BillingApp>,
    caller: Customer,
    Idempotent(key, wanted): Idempotent<NewCheckout>,
) -> Result<Json<Checkout>> {
    billing::checkout(&app.till(), &caller, key.as_ref(), wanted).await.map(Json)
}
