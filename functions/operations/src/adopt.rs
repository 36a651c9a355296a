//! Adopts a subscription that was begun at Stripe.

use axum::extract::State;
use shared::Result;
use shared::domain::events::model::Adoption;
use shared::domain::families::subscription::Subscription;
use shared::http::{Admin, CreatedTagged, Idempotent};

use crate::app::OperationsApp;

/// Makes a MAIN of a Stripe subscription that no checkout of ours began, as a checkout would have
#[utoipa::path(post, path = "/api/v1/operator/subscriptions/adopt", tag = "subscriptions",
    operation_id = "adopt_stripe_subscription", request_body = Adoption,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, description = "Adopted", body = Subscription),
        (status = 404, description = "`stripe_subscription_not_found`, `tenant_not_found`"),
        (status = 409, description = "`stripe_subscription_known`, `checkout_under_way`, \
            `stripe_subscription_of_addon`, `stripe_subscription_incomplete`, \
            `stripe_subscription_ended`, `customer_of_another_tenant`, `tenant_deleted`, \
            `two_plans`, `unknown_stripe_status`, `request_in_progress`"),
        (status = 502, description = "`upstream`: Stripe failed; try again")))]
pub(crate) async fn adopt(
    State(app): State<OperationsApp>,
    Admin(by): Admin,
    Idempotent(key, new): Idempotent<Adoption>,
) -> Result<CreatedTagged<Subscription>> {
    let made = app.applier().adopt_for(&by, key.as_ref(), &new).await?;
    Ok(CreatedTagged {
        location: format!("/api/v1/operator/subscriptions/{}", made.subscription_id),
        resource: made,
    })
}
