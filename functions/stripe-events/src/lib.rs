//! The consumer of the FIFO queue: applies each event, and reports which messages must stay (docs/events.md, "Apply").

use std::collections::HashSet;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use shared::clock::Clock;
use shared::config::{self, DatabaseSettings, Env};
use shared::db::Db;
use shared::events::model::Envelope;
use shared::events::{Applier, Outcome};
use shared::queue::Queue;
use shared::secrets::{Role, Secrets};
use shared::stripe::Stripe;
use shared::{Error, Result};

/// What the function keeps between batches.
pub struct StripeEvents {
    /// Applies one event.
    pub applier: Applier,
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
        let wake = config::queue_url(env, "PROVISIONING_QUEUE_URL")?;
        let aws = config::aws().await;
        let secrets = Secrets::read(&aws, env, Role::System).await?;
        let db = Db::new(settings, "pulse_system", secrets.clone())?;
        Ok(Self { applier: Applier { db, stripe: Stripe::new(stripe, secrets)?, clock }, outbox_wake: Queue::new(&aws, wake) })
    }

    /// Applies a batch in its order. After a failure the later messages of the same group fail too: they must not overtake it.
    pub async fn handle(&self, batch: SqsEvent) -> SqsBatchResponse {
        let mut failed = Vec::new();
        let mut stopped_groups = HashSet::new();
        let mut wake = false;
        for message in &batch.records {
            let group = message.attributes.get("MessageGroupId").map_or("", String::as_str);
            if !stopped_groups.contains(group) {
                match self.apply(message).await {
                    Ok(outcome) => {
                        wake |= outcome.wake_outbox;
                        continue;
                    }
                    Err(error) => tracing::warn!(message.id = message.message_id, code = error.code(), %error, "the message stays on the queue"),
                }
                stopped_groups.insert(group);
            }
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = message.message_id.clone().unwrap_or_default();
            failed.push(failure);
        }
        // The minute tick finds the steps too; a lost wake costs a minute, a failed batch would cost more.
        if wake && let Err(error) = self.outbox_wake.wake().await {
            tracing::warn!(%error, "the outbox was not woken");
        }
        let mut response = SqsBatchResponse::default();
        response.batch_item_failures = failed;
        response
    }

    async fn apply(&self, message: &SqsMessage) -> Result<Outcome> {
        let body = message.body.as_deref().ok_or_else(|| Error::Malformed { code: "malformed_event", detail: "a message without body".to_owned() })?;
        self.applier.apply(&Envelope::parse(body.as_bytes())?).await
    }
}
