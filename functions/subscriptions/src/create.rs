//! Creates a subscription that is paid outside Stripe.

use axum::extract::State;
use shared::Result;
use shared::domain::subscriptions;
use shared::domain::subscriptions::model::{NewSubscription, SubscriptionSummary};
use shared::http::app::OperatorApp;
use shared::http::{Admin, CreatedTagged, Idempotent};

/// Creates a subscription; its slots come by a sync, or by hand
#[utoipa::path(post, path = "/api/v1/operator/subscriptions", tag = "subscriptions",
    operation_id = "create_subscription", request_body = NewSubscription,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, description = "Created", body = SubscriptionSummary),
        (status = 400, description = "`term_required`, `parent_required`, `parent_not_main`, \
            `parent_not_live`, `parent_ended`, `parent_of_another_tenant`"),
        (status = 404, description = "`tenant_not_found`, `plan_not_found`, `parent_not_found`"),
        (status = 409, description = "`tenant_deleted`, `request_in_progress`")))]
pub(crate) async fn create(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Idempotent(key, new): Idempotent<NewSubscription>,
) -> Result<CreatedTagged<SubscriptionSummary>> {
    let made = subscriptions::create(app.db(), &by, key.as_ref(), new, app.now()).await?;
    Ok(CreatedTagged {
        location: format!("/api/v1/operator/subscriptions/{}", made.subscription.subscription_id),
        resource: made,
    })
}
