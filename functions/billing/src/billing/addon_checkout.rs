//! Orders slots for a MAIN.

use axum::extract::State;
use shared::Result;
use shared::base::caller::Customer;
use shared::domain::addons;
use shared::domain::addons::model::{AddonCheckout, NewAddonCheckout};
use shared::domain::allocations::model::Try;
use shared::http::{Idempotent, Json, Query};

use crate::app::BillingApp;

/// Orders slots until the parent's term ends, and opens the checkout to pay for them. A dry run
/// only says what they cost
#[utoipa::path(post, path = "/api/v1/customer/billing/addon-checkout", tag = "billing",
    operation_id = "open_addon_checkout",
    params(Try, ("Idempotency-Key" = Option<String>, Header)),
    request_body = NewAddonCheckout,
    responses((status = 200, description =
        "The price, and where to send the browser; the same for a repeated key",
        body = AddonCheckout),
        (status = 400, description = "`parent_not_main`, `parent_not_live`"),
        (status = 402, description = "`payment_refused`"),
        (status = 404, description = "`subscription_not_found`, `tier_not_found`"),
        (status = 409, description = "`renewal_near`, `subscription_held`, `order_expired`, \
            `billing_account_gone`, `billing_email_refused`, `price_not_available`, \
            `stripe_refused`, `request_in_progress`"),
        (status = 422,
            description = "`invalid`, `tier_not_sold`, `amount_too_small`, `amount_too_large`"),
        (status = 502, description = "`upstream`: Stripe failed or did not answer")))]
pub(crate) async fn open(
    State(app): State<BillingApp>,
    caller: Customer,
    Query(how): Query<Try>,
    Idempotent(key, wanted): Idempotent<NewAddonCheckout>,
) -> Result<Json<AddonCheckout>> {
    if how.dry_run.0 {
        return addons::price(app.customer.db(), &caller, &wanted, app.customer.now())
            .await
            .map(Json);
    }
    addons::checkout(&app.till(), &caller, key.as_ref(), wanted).await.map(Json)
}
