//! SQS: the FIFO queue of Stripe's events and the queue that wakes the outbox.

use aws_config::SdkConfig;
use aws_sdk_sqs::error::DisplayErrorContext;

use crate::error::Service;
use crate::events::model::Message;
use crate::{Error, Result};

/// One queue.
#[derive(Clone)]
pub struct Queue {
    client: aws_sdk_sqs::Client,
    url: String,
}

impl Queue {
    /// The queue at `url`.
    #[must_use]
    pub fn new(aws: &SdkConfig, url: String) -> Self {
        Self::with(aws_sdk_sqs::Client::new(aws), url)
    }

    /// The queue at `url`, by a client of one's own.
    #[must_use]
    pub fn with(client: aws_sdk_sqs::Client, url: String) -> Self {
        Self { client, url }
    }

    /// Puts an event on the FIFO queue. When this returns the event is durable.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn send(&self, message: Message) -> Result<()> {
        let send = self.client.send_message().queue_url(&self.url).message_body(message.body);
        let send = send.message_group_id(message.group).message_deduplication_id(message.deduplication_id);
        send.send().await.map(drop).map_err(unavailable)
    }

    /// Wakes the outbox (docs/events.md, "Outbox"). A lost wake costs a minute, no more.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn wake(&self) -> Result<()> {
        self.client.send_message().queue_url(&self.url).message_body("{}").send().await.map(drop).map_err(unavailable)
    }
}

fn unavailable<E>(error: E) -> Error
where
    E: std::error::Error,
{
    Error::unavailable(Service::Queue, DisplayErrorContext(error))
}
