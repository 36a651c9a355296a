//! The consumer of the FIFO queue: applies each event, and reports which messages must stay
//! (docs/events.md, "Apply").

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use shared::base::clock::Clock;
use shared::base::fault;
use shared::base::fault::Point;
use shared::db::Db;
use shared::domain::events::model::{Envelope, EventStatus, redelivery_delay};
use shared::domain::events::{Applier, Outcome, SnapshotCache};
use shared::outside::aws;
use shared::outside::queue::Queue;
use shared::outside::secrets::{Role, Secrets};
use shared::outside::stripe::Stripe;
use shared::process::config::{DatabaseSettings, Env};
use shared::process::metrics::Unit;
use shared::process::{config, metrics};
use shared::{Error, Result};

/// After this time a batch begins no further event, so that the last one ends or is aborted within
/// the function's time-out in template.yaml.
const BATCH_BUDGET: Duration = Duration::from_secs(25);

/// What the function keeps between batches.
pub struct StripeEvents {
    /// Applies one event.
    pub applier: Applier,
    /// The FIFO queue, to delay the messages that stay on it.
    pub queue: Queue,
    /// Wakes `provisioning`.
    pub outbox_wake: Queue,
}

impl StripeEvents {
    /// Reads the settings and the secret.
    ///
    /// # Errors
    /// `Setting`, `Upstream`.
    pub async fn start(env: &Env, clock: Clock) -> Result<Self> {
        let settings = DatabaseSettings::from_env(env)?;
        let stripe = config::stripe_api_base(env)?;
        let queue = config::queue_url(env, "STRIPE_QUEUE_URL")?;
        let wake = config::queue_url(env, "PROVISIONING_QUEUE_URL")?;
        let aws = aws::config(env)?;
        let secrets = Secrets::read(&aws, env, Role::System).await?;
        let db = Arc::new(Db::new(settings, "pulse_system", secrets.clone())?);
        let reads_per_second = config::stripe_reads_per_second(env)?;
        let applier =
            Applier { db, stripe: Stripe::new(stripe, secrets)?, reads_per_second, clock };
        Ok(Self { applier, queue: Queue::new(&aws, queue), outbox_wake: Queue::new(&aws, wake) })
    }

    /// Applies a batch in its order. After a failure the later messages of the same group fail too,
    /// because they must not overtake it. A failed message is delayed, longer each time.
    pub async fn handle(&self, batch: SqsEvent) -> SqsBatchResponse {
        let began = Instant::now();
        let mut failed = Vec::new();
        let mut stopped_groups = HashSet::new();
        let (mut applied_count, mut failed_count) = (0, 0);
        let mut wake = false;
        let mut reads = SnapshotCache::default();
        for message in &batch.records {
            let group = attribute(message, "MessageGroupId");
            let mut rest = redelivery_delay(receives(message));
            if !stopped_groups.contains(group) {
                if began.elapsed() < BATCH_BUDGET {
                    // An error is in the log already, with its event.
                    if let Ok(outcome) = self.apply(message, &mut reads).await {
                        wake |= outcome.wake_outbox;
                        applied_count += i64::from(outcome.status == EventStatus::Applied);
                        failed_count += i64::from(outcome.status == EventStatus::Failed);
                        continue;
                    }
                } else {
                    rest = Duration::ZERO;
                }
            }
            stopped_groups.insert(group);
            failed.push((message, rest));
        }
        metrics::put_all(&[
            ("EventsApplied", Unit::Count, applied_count),
            ("EventsFailed", Unit::Count, failed_count),
        ]);
        fault::point(Point::BatchApplied);
        // The minute tick finds the steps too; a lost wake costs a minute, a failed batch would
        // cost more.
        if wake && let Err(error) = self.outbox_wake.wake().await {
            tracing::warn!(%error, "the outbox was not woken");
        }
        fault::point(Point::BatchWoken);
        for (message, rest) in &failed {
            self.rest(message, *rest).await;
        }
        let mut response = SqsBatchResponse::default();
        response.batch_item_failures =
            failed.into_iter().map(|(message, _)| failure(message)).collect();
        response
    }

    async fn apply(&self, message: &SqsMessage, reads: &mut SnapshotCache) -> Result<Outcome> {
        let body = message
            .body
            .as_deref()
            .ok_or_else(|| Error::malformed("malformed_event", "a message without body"));
        let event = match body.and_then(|body| Envelope::parse(body.as_bytes())) {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(message.id = message.message_id, code = error.code(), %error,
                    "the message is no event, and stays on the queue");
                return Err(error);
            }
        };
        self.applier.apply(&event, receives(message), reads).await
    }

    /// If that fails, the queue's own visibility time-out is the delay.
    async fn rest(&self, message: &SqsMessage, rest: Duration) {
        let Some(handle) = message.receipt_handle.as_deref() else { return };
        let seconds = i32::try_from(rest.as_secs()).unwrap_or(i32::MAX);
        if let Err(error) = self.queue.delay(handle, seconds).await {
            tracing::warn!(message.id = message.message_id, %error,
            "the message keeps the queue's own delay");
        }
    }
}

fn attribute<'a>(message: &'a SqsMessage, name: &str) -> &'a str {
    message.attributes.get(name).map_or("", String::as_str)
}

/// How often the queue has delivered the message, including this time.
fn receives(message: &SqsMessage) -> u32 {
    attribute(message, "ApproximateReceiveCount").parse().unwrap_or(1)
}

fn failure(message: &SqsMessage) -> BatchItemFailure {
    let mut failure = BatchItemFailure::default();
    failure.item_identifier = message.message_id.clone().unwrap_or_default();
    failure
}
