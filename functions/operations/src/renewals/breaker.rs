//! Approves what the breaker stopped: too many subscriptions would have lost access.

use axum::extract::State;
use shared::Result;
use shared::domain::renewals::operator;
use shared::domain::renewals::operator::model::{BreakerApproval, NewBreakerApproval};
use shared::http::app::OperatorApp;
use shared::http::{Admin, Created, Idempotent};

/// Lets up to `max_count` subscriptions lose access until then; a later approval replaces an
/// earlier one
#[utoipa::path(post, path = "/api/v1/operator/renewals/breaker", tag = "operations",
    operation_id = "approve_renewals", request_body = NewBreakerApproval,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, description = "The next runs go on", body = BreakerApproval),
        (status = 409, description = "`request_in_progress`")))]
pub(crate) async fn approve(
    State(app): State<OperatorApp>,
    Admin(by): Admin,
    Idempotent(key, approval): Idempotent<NewBreakerApproval>,
) -> Result<Created<BreakerApproval>> {
    operator::approve(app.db(), &by, key.as_ref(), approval, app.now()).await.map(Created)
}
