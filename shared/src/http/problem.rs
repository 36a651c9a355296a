//! Errors as answers (RFC 9457; docs/api.md, "Problems").

use std::sync::Arc;

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::Error;
use crate::base::error::{EMAIL_FAILED, Refusal, Service as Outside, UPSTREAM, invalid_message};

/// Seconds after which a caller may retry a transient failure.
pub(crate) const RETRY_SECONDS: u16 = 5;

/// A problem (RFC 9457) on its way to `frame`, which makes its body with the request's id.
#[derive(Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    pub(super) code: &'static str,
    detail: String,
    faults: Arc<Vec<crate::base::error::FieldFault>>,
    /// Limit and use, if a limit is exceeded.
    numbers: Option<(i64, i64)>,
    /// For the log only.
    pub(super) cause: Option<Arc<str>>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            faults: Arc::default(),
            numbers: None,
            cause: None,
        }
    }

    pub(super) fn body(&self, request_id: &str) -> Value {
        let mut body = problem_body(self.status, self.code, &self.detail, request_id);
        if let Some((limit, used)) = self.numbers {
            (body["limit"], body["used"], body["remaining"]) =
                (json!(limit), json!(used), json!((limit - used).max(0)));
        }
        if !self.faults.is_empty() {
            body["errors"] = json!(*self.faults);
        }
        body
    }
}

/// The fields that every problem has (docs/api.md, "Problems").
#[must_use]
pub fn problem_body(status: StatusCode, code: &str, detail: &str, request_id: &str) -> Value {
    let title = status.canonical_reason().unwrap_or_default();
    json!({
        "type": "about:blank", "title": title, "status": status.as_u16(),
        "code": code, "detail": detail, "request_id": request_id,
    })
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                drop(headers.insert(RETRY_AFTER, RETRY_SECONDS.into()));
            }
            StatusCode::CONFLICT if self.code == "request_in_progress" => {
                drop(headers.insert(RETRY_AFTER, 1.into()));
            }
            _ => {}
        }
        (self.status, headers, axum::Extension(self)).into_response()
    }
}

pub(crate) fn refusal_status(why: Refusal) -> StatusCode {
    match why {
        Refusal::Malformed => StatusCode::BAD_REQUEST,
        Refusal::Unauthenticated => StatusCode::UNAUTHORIZED,
        Refusal::Forbidden => StatusCode::FORBIDDEN,
        Refusal::NotFound => StatusCode::NOT_FOUND,
        Refusal::PaymentRequired => StatusCode::PAYMENT_REQUIRED,
        Refusal::Conflict => StatusCode::CONFLICT,
        Refusal::Precondition => StatusCode::PRECONDITION_FAILED,
    }
}

/// An error as an answer. The cause of a 5xx is only in the log.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let code = self.code();
        // What a caller wrote does not belong in the log; the code of a refusal is enough.
        let cause = (!matches!(
            self,
            Self::Refused { .. } | Self::Exceeded { .. } | Self::Invalid(_) | Self::Unfit { .. }
        ))
        .then(|| Arc::from(self.to_string()));
        let mut problem = match self {
            Self::Refused { why, detail, .. } => Problem::new(refusal_status(why), code, detail),
            Self::Exceeded { detail, limit, used, .. } => Problem {
                numbers: Some((limit, used)),
                ..Problem::new(StatusCode::PAYMENT_REQUIRED, code, detail)
            },
            // One reason: the sentence that an answer has without a list of fields says it too.
            Self::Unfit { faults, .. } => {
                let detail = invalid_message(&faults);
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                Problem { faults: Arc::new(faults), ..Problem::new(status, code, detail) }
            }
            Self::Invalid(faults) => {
                let fields =
                    if faults.len() == 1 { "1 field" } else { &format!("{} fields", faults.len()) };
                Problem {
                    faults: Arc::new(faults),
                    ..Problem::new(
                        StatusCode::UNPROCESSABLE_ENTITY,
                        code,
                        format!("{fields} of the request cannot be taken."),
                    )
                }
            }
            Self::InProgress => Problem::new(
                StatusCode::CONFLICT,
                code,
                "A request with this Idempotency-Key is still running. Ask again.",
            ),
            Self::Upstream { service: service @ (Outside::Stripe | Outside::Keycloak), .. } => {
                let mail = if code == EMAIL_FAILED { "Failed to send email: " } else { "" };
                Problem::new(
                    StatusCode::BAD_GATEWAY,
                    UPSTREAM,
                    format!("{mail}{service} failed or did not answer. Try again later."),
                )
            }
            Self::Database(_) | Self::Upstream { .. } if self.is_transient() => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The service is not available at this moment. Try again.",
            ),
            Self::Setting(_) | Self::Database(_) | Self::Upstream { .. } | Self::Internal(_) => {
                Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "Something went wrong on our side.",
                )
            }
        };
        problem.cause = cause;
        problem.into_response()
    }
}
