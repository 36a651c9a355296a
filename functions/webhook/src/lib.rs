//! `POST /webhook/stripe`: verifies Stripe's signature, puts the event on the queue, and only then
//! answers 200 (docs/events.md, "Ingest"). Needs no database and no Stripe client; it stores
//! nothing.

use std::sync::Arc;

use lambda_http::http::header::{CONTENT_TYPE, RETRY_AFTER};
use lambda_http::http::{HeaderValue, StatusCode};
use lambda_http::{Body, Request, Response};
use serde_json::json;
use shared::base::clock::Clock;
use shared::base::error::Refusal;
use shared::base::fault;
use shared::base::fault::Point;
use shared::domain::events::model::{Envelope, unreadable_message};
use shared::domain::events::signature;
use shared::http::{PROBLEM_JSON, REQUEST_ID, problem_body, request_id, trace_id};
use shared::outside::aws;
use shared::outside::queue::Queue;
use shared::outside::secrets::{Role, Secrets};
use shared::process::config::Env;
use shared::process::metrics::Unit;
use shared::process::{config, metrics};
use shared::{Error, Result};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What the codes of a refused signature begin with.
const SIGNATURE: &str = "signature_";

/// What the function keeps between requests.
pub struct Webhook {
    /// The secret of the role `webhook`.
    pub secrets: Arc<Secrets>,
    /// The FIFO queue.
    pub queue: Queue,
    /// Its dead-letter queue, for what is signed and cannot be read.
    pub dead_letters: Queue,
    /// The time.
    pub clock: Clock,
}

impl Webhook {
    /// Reads the settings and the secret.
    ///
    /// # Errors
    /// `Setting`, `Upstream`.
    pub async fn start(env: &Env, clock: Clock) -> Result<Self> {
        let url = config::queue_url(env, "STRIPE_QUEUE_URL")?;
        let dead_letters = config::queue_url(env, "STRIPE_DLQ_URL")?;
        let aws = aws::config(env)?;
        let secrets = Secrets::read(&aws, env, Role::Webhook).await?;
        secrets.check("STRIPE_WEBHOOK_SECRET", Secrets::stripe_webhook_secrets)?;
        let (queue, dead_letters) = (Queue::new(&aws, url), Queue::new(&aws, dead_letters));
        Ok(Self { secrets, queue, dead_letters, clock })
    }

    /// Answers one delivery: 200 once the event is durable, 400 if it can never be accepted, 503 if
    /// Stripe should repeat it.
    #[tracing::instrument(name = "webhook.stripe", skip_all,
        fields(request.id = request_id(&request), trace.id = trace_id(&request)))]
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let request_id = request_id(&request).to_owned();
        match self.ingest(&request).await {
            Ok(envelope) => {
                tracing::info!(stripe.event_id = %envelope.id,
                    stripe.event_type = envelope.event_type, "queued");
                answer(StatusCode::OK, JSON, &json!({"status": "ok"}), &request_id)
            }
            Err(error) => {
                let status = if error.is(Refusal::Malformed) {
                    StatusCode::BAD_REQUEST
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                tracing::warn!(code = error.code(), %error, status = status.as_u16(),
                "delivery refused");
                if error.code().starts_with(SIGNATURE) {
                    metrics::put("SignatureFailures", Unit::Count, 1);
                }
                problem(status, &error, &request_id)
            }
        }
    }

    async fn ingest(&self, request: &Request) -> Result<Envelope> {
        let body: &[u8] = request.body();
        let header = request
            .headers()
            .get("stripe-signature")
            .and_then(|header| header.to_str().ok())
            .unwrap_or_default();
        self.secrets.needed(Secrets::stripe_webhook_secrets).await?;
        if let Err(error) = self.verify(header, body) {
            // The secret may have been rotated since this instance read it.
            if error.code() != "signature_invalid" || !self.secrets.refresh().await.unwrap_or(false)
            {
                return Err(error);
            }
            self.verify(header, body)?;
        }
        let (text, envelope) = match read(body) {
            Ok(event) => event,
            Err(error) => {
                self.keep(body, &error).await?;
                return Err(error);
            }
        };
        fault::point(Point::IngestVerified);
        self.queue.send(envelope.message(text)).await?;
        fault::point(Point::IngestQueued);
        Ok(envelope)
    }

    /// Keeps a body that Stripe has signed and that this release cannot read: else it would be gone
    /// when Stripe stops repeating it. On the dead-letter queue and not in the log: that one has an
    /// alarm and a redrive, and a body has no place in a log. A thin event is only counted: it has
    /// nothing but ids, and its destination at Stripe must be made anew.
    async fn keep(&self, body: &[u8], error: &Error) -> Result<()> {
        metrics::put("UnreadableEvents", Unit::Count, 1);
        if error.code() == "thin_event" {
            return Ok(());
        }
        let message = unreadable_message(body);
        tracing::error!(
            code = error.code(),
            body.bytes = body.len(),
            message.deduplication_id = message.deduplication_id,
            "a signed body cannot be read; it is kept on the dead-letter queue"
        );
        self.dead_letters.send(message).await
    }

    fn verify(&self, header: &str, body: &[u8]) -> Result<()> {
        signature::verify(
            header,
            body,
            &self.secrets.stripe_webhook_secrets()?,
            self.clock.now().as_second(),
        )
    }
}

fn read(body: &[u8]) -> Result<(&str, Envelope)> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Error::malformed("malformed_event", "the body is not UTF-8"))?;
    Ok((text, Envelope::parse(body)?))
}

/// What is wrong with a signature, and what an upstream says, stays in the log; the code says
/// enough to Stripe's own page of deliveries.
fn problem(status: StatusCode, error: &Error, request_id: &str) -> Response<Body> {
    let detail = if error.code().starts_with(SIGNATURE) {
        "Invalid signature".to_owned()
    } else if status == StatusCode::BAD_REQUEST {
        error.to_string()
    } else {
        "The event could not be queued; it should be delivered again.".to_owned()
    };
    let body = problem_body(status, error.code(), &detail, request_id);
    let mut answer = answer(status, PROBLEM_JSON, &body, request_id);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("30"));
    }
    answer
}

fn answer(
    status: StatusCode,
    content_type: HeaderValue,
    body: &serde_json::Value,
    request_id: &str,
) -> Response<Body> {
    let answer = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, content_type)
        .header(REQUEST_ID, request_id);
    answer.body(Body::Text(body.to_string())).unwrap_or_default()
}
