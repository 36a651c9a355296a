//! Adds a plan.

use axum::extract::State;
use shared::Result;
use shared::domain::plans;
use shared::domain::plans::model::{NewPlan, Plan};
use shared::http::app::OperatorApp;
use shared::http::{Admin, CreatedTagged, Idempotent};

/// Adds a plan
#[utoipa::path(post, path = "/api/v1/operator/plans", tag = "plans", operation_id = "create_plan",
    request_body = NewPlan,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, description = "Added", body = Plan), (status = 409, description =
        "`plan_exists`, `price_taken`, `request_in_progress`")))]
pub(crate) async fn create(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Idempotent(key, new): Idempotent<NewPlan>,
) -> Result<CreatedTagged<Plan>> {
    let plan = plans::create(app.db(), &by, key.as_ref(), new, app.now()).await?;
    Ok(CreatedTagged {
        location: format!("/api/v1/operator/plans/{}", plan.plan_id),
        resource: plan,
    })
}
