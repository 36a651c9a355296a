//! The way to Stripe: one client for all requests, with time-outs, retries and a key that may be
//! rotated meanwhile.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use stripe_client_core::RequestBuilder;
use tokio::sync::OnceCell;

use super::errors::{ErrorAnswer, FailedCall, Failure, status_is_transient, unreadable};
use crate::base::error::{Service, UPSTREAM, with_causes};
use crate::outside::secrets::Secrets;
use crate::process::tls;
use crate::{Error, Result};

/// Attempts of one request before its message goes back to the queue, or its step waits, and how
/// long each may take.
const ATTEMPTS: u32 = 3;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(6);

/// How long all of them may take together. Two reads fit into an event's budget
/// (`events::EVENT_BUDGET`), so that the recorded reason is a stalled Stripe and not the event's
/// own timeout.
const REQUEST_BUDGET: Duration = Duration::from_secs(11);

/// How long an idempotency key is at most ("Idempotent requests").
const KEY_LENGTH: usize = 255;

/// Stripe in one account and mode.
pub struct Stripe {
    /// Made at the first request: many invocations never call Stripe.
    http: OnceCell<reqwest::Client>,
    base: String,
    secrets: Arc<Secrets>,
}

impl Stripe {
    /// A client of the API at `base` (without `/v1`). Connects at the first request.
    ///
    /// # Errors
    /// `Setting` where the secret key is missing or malformed.
    pub fn new(base: String, secrets: Arc<Secrets>) -> Result<Self> {
        secrets.check("STRIPE_SECRET_KEY", Secrets::stripe_secret_key)?;
        Ok(Self { http: OnceCell::new(), base, secrets })
    }

    /// Whether the key is one of live mode. Events of the other mode are not ours.
    ///
    /// # Errors
    /// `Setting` while it is not filled in.
    pub async fn livemode(&self) -> Result<bool> {
        Ok(self.secrets.needed(Secrets::stripe_secret_key).await?.contains("_live_"))
    }

    async fn http(&self) -> Result<&reqwest::Client> {
        self.http
            .get_or_try_init(async || tls::http_client(Duration::from_secs(3), ATTEMPT_TIMEOUT))
            .await
    }

    pub(super) async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let answer = self.send(Method::GET, &request, None).await?;
        parse(&request, &answer)
    }

    /// As `read`; none where Stripe does not know it.
    pub(super) async fn find<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Option<T>> {
        match self.send(Method::GET, &request, None).await {
            Ok(answer) => parse(&request, &answer).map(Some),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(None),
            Err(failure) => Err(failure.error),
        }
    }

    pub(super) async fn write<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        key: &str,
    ) -> Result<T> {
        match self.send(Method::POST, &request, Some(key)).await {
            Ok(answer) => parse(&request, &answer),
            Err(failure) => Err(match failure.said.as_deref().and_then(FailedCall::for_the_user) {
                Some(refusal) => {
                    // The user's wording leaves out what an operator may need.
                    tracing::warn!(error = %failure.error, code = refusal.code(),
                    "Stripe refused a write");
                    refusal
                }
                None => failure.error,
            }),
        }
    }

    pub(super) async fn send(
        &self,
        method: Method,
        request: &RequestBuilder,
        key: Option<&str>,
    ) -> std::result::Result<Bytes, Failure> {
        let in_time =
            tokio::time::timeout(REQUEST_BUDGET, self.send_patiently(&method, request, key)).await;
        let late = || {
            format!(
                "{method} {} was not answered within {} s",
                request.path,
                REQUEST_BUDGET.as_secs()
            )
        };
        in_time.unwrap_or_else(|_| Err(Error::unavailable(Service::Stripe, late()).into()))
    }

    /// Retries. That is safe: a read changes nothing, nor does a second DELETE, and a POST has its
    /// idempotency key.
    async fn send_patiently(
        &self,
        method: &Method,
        request: &RequestBuilder,
        key: Option<&str>,
    ) -> std::result::Result<Bytes, Failure> {
        let mut attempt = 1;
        let mut refreshed = false;
        let mut key = key.map(str::to_owned);
        let mut renewed = false;
        loop {
            let failure = match self.try_send(method, request, key.as_deref()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) if failure.is(StatusCode::UNAUTHORIZED) => {
                    if refreshed || !self.secrets.refresh().await? {
                        return Err(failure);
                    }
                    refreshed = true;
                    continue;
                }
                Err(failure)
                    if failure
                        .said
                        .as_ref()
                        .is_some_and(|said| said.replayed && said.status.is_server_error()) =>
                {
                    if renewed {
                        return Err(failure);
                    }
                    // Stripe keeps its own failure under the key, and would replay it for a day.
                    // Whatever that request made is never referred to.
                    key = key.map(|key| format!("{key}:anew"));
                    renewed = true;
                    continue;
                }
                Err(failure) => failure,
            };
            if attempt == ATTEMPTS || !failure.error.is_transient() {
                return Err(failure);
            }
            tracing::warn!(error = %failure.error, attempt, "Stripe request failed");
            tokio::time::sleep(Duration::from_millis(200 * u64::from(attempt * attempt))).await;
            attempt += 1;
        }
    }

    async fn try_send(
        &self,
        method: &Method,
        request: &RequestBuilder,
        key: Option<&str>,
    ) -> std::result::Result<Bytes, Failure> {
        let query = request
            .query
            .as_deref()
            .filter(|query| !query.is_empty())
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        let url = format!("{}/v1{}{query}", self.base, request.path);
        let unreachable = |error: reqwest::Error| {
            Failure::from(Error::unavailable(Service::Stripe, with_causes(&error.without_url())))
        };
        let secret = self.secrets.needed(Secrets::stripe_secret_key).await?;
        let mut call = self
            .http()
            .await?
            .request(method.clone(), url)
            .bearer_auth(secret)
            .header("Stripe-Version", stripe_shared::version::VERSION.as_str());
        if let Some(key) = key {
            call = call.header("Idempotency-Key", fitting(key).as_ref());
        }
        if let Some(form) = &request.body {
            call =
                call.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone());
        }
        let answer = call.send().await.map_err(unreachable)?;
        let status = answer.status();
        if status.is_success() {
            return answer.bytes().await.map_err(unreachable);
        }
        let request_id = answer
            .headers()
            .get("request-id")
            .and_then(|id| id.to_str().ok())
            .unwrap_or("none")
            .to_owned();
        let replayed = answer.headers().contains_key("idempotent-replayed");
        let body = answer.json::<ErrorAnswer>().await.map(|body| body.error).unwrap_or_default();
        // A refused mail address is quoted; it has no place in a log.
        let said =
            body.message.as_deref().filter(|message| !message.contains('@')).unwrap_or_default();
        let detail =
            format!("{method} {} answered {status}: {said} (request {request_id})", request.path);
        let error = Error::Upstream {
            service: Service::Stripe,
            code: UPSTREAM,
            transient: status_is_transient(status),
            detail,
        };
        Err(Failure { error, said: Some(Box::new(FailedCall { status, replayed, body })) })
    }
}

/// A key that Stripe takes: of a longer one its digest. A price's id alone may be as long.
fn fitting(key: &str) -> Cow<'_, str> {
    if key.len() <= KEY_LENGTH {
        return Cow::Borrowed(key);
    }
    Cow::Owned(hex::encode(digest(&SHA256, key.as_bytes())))
}

pub(super) fn parse<T: DeserializeOwned>(request: &RequestBuilder, answer: &[u8]) -> Result<T> {
    serde_json::from_slice(answer)
        .map_err(|error| unreadable(format!("the answer to {}: {error}", request.path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_too_long_is_its_digest_and_another_for_each() {
        let key = |length: usize, end: &str| format!("{}{end}", "k".repeat(length - end.len()));
        assert_eq!(fitting(&key(255, "")), key(255, ""));
        let long = [key(256, "1"), key(256, "2"), key(257, "1")];
        let [first, second, third] = long.each_ref().map(|key| fitting(key));
        assert!(first.len() == 64 && first != second && first != third, "{first} {second} {third}");
    }
}
