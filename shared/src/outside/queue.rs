//! SQS: the FIFO queue of Stripe's events and the queue that wakes the outbox.

use aws_sdk_sqs::error::DisplayErrorContext;
use aws_sdk_sqs::types::MessageSystemAttributeName;

use super::aws::SdkConfig;
use crate::base::error::Service;
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
        let send =
            send.message_group_id(message.group).message_deduplication_id(message.deduplication_id);
        send.send().await.map(drop).map_err(unavailable)
    }

    /// Puts a request for an hourly run on its queue.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn request_run(&self, requested_by: &str) -> Result<()> {
        let body = serde_json::json!({ "requested_by": requested_by }).to_string();
        self.client
            .send_message()
            .queue_url(&self.url)
            .message_body(body)
            .send()
            .await
            .map(drop)
            .map_err(unavailable)
    }

    /// Lets a message that was handed out rest for `seconds` before it is handed out again.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn delay(&self, receipt_handle: &str, seconds: i32) -> Result<()> {
        let change = self
            .client
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(receipt_handle)
            .visibility_timeout(seconds);
        change.send().await.map(drop).map_err(unavailable)
    }

    /// Moves this dead-letter queue's messages back to `queue`, in the order of each group, and
    /// returns how many that were. A message is deleted here only after it is there; one that
    /// is there twice by a crash between the two has one effect.
    ///
    /// # Errors
    /// `Upstream`; what was moved by then is moved.
    pub async fn redrive(&self, queue: &Self) -> Result<usize> {
        let mut moved = 0;
        loop {
            let receive = self
                .client
                .receive_message()
                .queue_url(&self.url)
                .max_number_of_messages(10)
                .visibility_timeout(60);
            let batch = receive
                .message_system_attribute_names(MessageSystemAttributeName::MessageGroupId)
                .send()
                .await
                .map_err(unavailable)?;
            if batch.messages().is_empty() {
                return Ok(moved);
            }
            for message in batch.messages() {
                let group = message.attributes().and_then(|attributes| {
                    attributes.get(&MessageSystemAttributeName::MessageGroupId)
                });
                let id = message.message_id().unwrap_or_default();
                let body = message.body().unwrap_or_default().to_owned();
                // Its own deduplication id: the queue may still remember the event's.
                let again = Message {
                    group: group.map_or(id, String::as_str).to_owned(),
                    deduplication_id: format!("redrive:{id}"),
                    body,
                };
                queue.send(again).await?;
                let delete = self
                    .client
                    .delete_message()
                    .queue_url(&self.url)
                    .receipt_handle(message.receipt_handle().unwrap_or_default());
                delete.send().await.map_err(unavailable)?;
                moved += 1;
            }
        }
    }

    /// Wakes the outbox (docs/events.md, "Outbox"). A lost wake costs a minute, no more.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn wake(&self) -> Result<()> {
        self.client
            .send_message()
            .queue_url(&self.url)
            .message_body("{}")
            .send()
            .await
            .map(drop)
            .map_err(unavailable)
    }
}

fn unavailable<E>(error: E) -> Error
where
    E: std::error::Error,
{
    Error::unavailable(Service::Queue, DisplayErrorContext(error))
}

/// One message of the FIFO queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Messages of one group are applied one after the other.
    pub group: String,
    /// SQS drops a second one within five minutes.
    pub deduplication_id: String,
    /// The event.
    pub body: String,
}
