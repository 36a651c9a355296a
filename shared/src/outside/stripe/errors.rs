//! What Stripe refuses, and what of it the user of a write can act on.

use std::fmt;

use reqwest::StatusCode;
use serde::Deserialize;

use crate::base::error::{Refusal, Service};
use crate::{Error, Result};

/// The code of a refusal because the idempotency key was used with other parameters. Stripe
/// remembers a key for a day or longer.
pub const KEY_SPENT: &str = "stripe_key_spent";

/// The code of a refusal because the checkout would close too early: the request was repeated too
/// late.
pub const SESSION_TOO_SHORT: &str = "stripe_session_too_short";

/// An object of Stripe's that lacks a field which a rule needs, or has an unknown value in it. It
/// is the same at the next read: an operator must look.
pub(crate) fn unreadable(detail: impl fmt::Display) -> Error {
    Error::unusable(Service::Stripe, "stripe_shape", detail)
}

/// An id in an object of Stripe's. A malformed one is Stripe's failure, and not the caller's.
pub(super) fn id<T>(parsed: Result<T>) -> Result<T> {
    parsed.map_err(|error| Error::unusable(Service::Stripe, error.code(), error))
}

/// A request that failed, and Stripe's answer if there was one.
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) said: Option<Box<FailedCall>>,
}

impl Failure {
    /// Whether Stripe answered with this status.
    pub(super) fn is(&self, status: StatusCode) -> bool {
        self.said.as_ref().is_some_and(|said| said.status == status)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, said: None }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

pub(super) struct FailedCall {
    pub(super) status: StatusCode,
    /// The answer is the kept one of an earlier request with this idempotency key.
    pub(super) replayed: bool,
    pub(super) body: ErrorBody,
}

impl FailedCall {
    /// A refusal of a write, worded for the user who can act on it. `None` where Stripe failed or
    /// refused our secret key.
    ///
    /// By Stripe's "Error codes". Only a card error's message is written for users; others may
    /// reveal details of our account.
    pub(super) fn for_the_user(&self) -> Option<Error> {
        let field = |field: &Option<String>| field.clone().unwrap_or_default();
        let (kind, code, param) =
            (field(&self.body.kind), field(&self.body.code), field(&self.body.param));
        if kind == "idempotency_error" {
            return Some(Error::conflict(
                KEY_SPENT,
                "Stripe has answered another request of this idempotency key",
            ));
        }
        if status_is_transient(self.status) || !self.status.is_client_error() {
            return None;
        }
        Some(match (kind.as_str(), code.as_str(), param.as_str()) {
            ("card_error", ..) => {
                let said = self
                    .body
                    .message
                    .clone()
                    .unwrap_or_else(|| "The payment method was declined.".to_owned());
                Error::refusal(Refusal::PaymentRequired, "payment_refused", said)
            }
            (_, "url_invalid", "success_url" | "cancel_url" | "return_url") => {
                Error::invalid(param, "is no URL that Stripe takes")
            }
            (_, "email_invalid", _) | (_, _, "email") => Error::conflict(
                "billing_email_refused",
                "Stripe does not take the company's billing address. Correct billing_email in the \
                 organization's profile.",
            ),
            (_, "resource_missing", "customer") => Error::conflict(
                "billing_account_gone",
                "The company's billing account no longer exists at Stripe. Contact support to \
                 have it linked again.",
            ),
            (_, _, "expires_at") => Error::conflict(
                SESSION_TOO_SHORT,
                "Stripe keeps a checkout open for 30 minutes at least",
            ),
            (_, _, param) if param.starts_with("line_items") => Error::conflict(
                "price_not_available",
                "Stripe does not sell this plan at this moment. Choose another plan or interval, \
                 or contact support.",
            ),
            _ => Error::conflict(
                "stripe_refused",
                "Stripe refused the request. Check the company's profile, or contact support with \
                 this request's id.",
            ),
        })
    }
}

/// By Stripe's "Advanced error handling": a conflict, a rate limit and a server error pass. A key
/// that is refused or lacks rights is fixed by an operator, and pending work must outlive that. A
/// 404 is never an expiry: it is an error of ours that an operator must see.
pub(super) fn status_is_transient(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::CONFLICT
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::FAILED_DEPENDENCY
        )
}

#[derive(Deserialize)]
pub(super) struct ErrorAnswer {
    pub(super) error: ErrorBody,
}

#[derive(Default, Deserialize)]
pub(super) struct ErrorBody {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    pub(super) param: Option<String>,
    pub(super) message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> Option<Error> {
        let body = serde_json::from_str::<ErrorAnswer>(body).expect("readable").error;
        FailedCall {
            status: StatusCode::from_u16(status).expect("a status"),
            replayed: false,
            body,
        }
        .for_the_user()
    }

    #[test]
    fn a_user_gets_what_they_can_act_on_and_only_a_cards_message_is_stripes() {
        let of = |status, body: &str| {
            refusal(status, body).map(|error| (error.code(), error.to_string()))
        };
        let card = of(
            402,
            r#"{"error":{"type":"card_error","code":"card_declined",
                "message":"Your card was declined."}}"#,
        );
        assert_eq!(card, Some(("payment_refused", "Your card was declined.".to_owned())));
        let price = r#"{"error":{"type":"invalid_request_error","code":"resource_missing",
            "param":"line_items[0][price]","message":"No such price: 'price_x'"}}"#;
        let (code, detail) = of(400, price).expect("a refusal");
        assert!(code == "price_not_available" && !detail.contains("price_x"), "{detail}");
        let unknown = of(
            400,
            r#"{"error":{"type":"invalid_request_error","message":"acct_1 may not do this"}}"#,
        )
        .expect("a refusal");
        assert!(unknown.0 == "stripe_refused" && !unknown.1.contains("acct_1"), "{unknown:?}");
        assert_eq!(
            of(400, r#"{"error":{"type":"idempotency_error"}}"#).expect("a refusal").0,
            KEY_SPENT
        );
        for status in [401, 403, 409, 429, 500, 503] {
            assert_eq!(
                of(status, r#"{"error":{"type":"api_error","message":"sk_test_1"}}"#),
                None,
                "{status}"
            );
        }
    }

    #[test]
    fn a_404_stays_an_error_and_a_refused_key_waits_for_an_operator() {
        assert!(!status_is_transient(StatusCode::NOT_FOUND));
        assert!(!status_is_transient(StatusCode::BAD_REQUEST));
        for status in [401, 403, 409, 429, 500, 502, 503] {
            assert!(
                status_is_transient(StatusCode::from_u16(status).expect("a status")),
                "{status}"
            );
        }
    }
}
