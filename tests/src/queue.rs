//! The queues of a world: what comes out of them, and to whom it is handed.

use std::collections::HashMap;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use futures::future::join_all;
use lambda_http::http::StatusCode;
use serde_json::Value;

use crate::{World, apply_by, sqs_message};

impl World {
    /// Posts events, expects them queued, and applies the queue until it is empty.
    ///
    /// # Panics
    /// Where one is refused or stays.
    pub async fn receive(&self, events: &[&Value]) {
        for event in events {
            assert_eq!(self.post(event).await.status(), StatusCode::OK);
        }
        assert_eq!(self.drain().await, 0, "no message stays");
    }

    /// Hands the queue's messages to `stripe-events` until none is visible, and returns how many it
    /// left there.
    ///
    /// # Panics
    /// Where the queue fails.
    pub async fn drain(&self) -> usize {
        self.hand_out().await.len()
    }

    /// The same with what stays visible again at once, as after its rest.
    ///
    /// # Panics
    /// Where the queue fails.
    pub async fn round(&self) -> usize {
        let stayed = self.hand_out().await;
        let url = &self.settings["STRIPE_QUEUE_URL"];
        let rested = stayed.iter().map(|handle| {
            self.sqs
                .change_message_visibility()
                .queue_url(url)
                .receipt_handle(handle)
                .visibility_timeout(0)
                .send()
        });
        for rested in join_all(rested).await {
            rested.expect("visibility");
        }
        stayed.len()
    }

    /// The receipt handles of what stayed, each at rest.
    async fn hand_out(&self) -> Vec<String> {
        let mut stayed = Vec::new();
        loop {
            let (batch, handles) = self.take().await;
            if batch.records.is_empty() {
                return stayed;
            }
            let failed = self.events.handle(batch).await;
            stayed.extend(self.settle(&failed, handles).await);
        }
    }

    /// Hands one batch to `stripe-events` and deletes what did not fail; what did is left as the
    /// function left it. Returns how many that is.
    ///
    /// # Panics
    /// Where the queue fails.
    pub async fn handle_batch(&self) -> usize {
        let (batch, mut handles) = self.take().await;
        let failed = self.events.handle(batch).await;
        handles.retain(|id, _| {
            failed.batch_item_failures.iter().all(|failure| failure.item_identifier != *id)
        });
        self.settle(&SqsBatchResponse::default(), handles).await;
        failed.batch_item_failures.len()
    }

    /// Receives a batch as a consumer that dies at once.
    pub async fn receive_and_forget(&self) {
        drop(self.take().await);
    }

    /// One batch, as the event source mapping hands it over, with its receipt handles by message
    /// id.
    async fn take(&self) -> (SqsEvent, HashMap<String, String>) {
        let receive = self
            .sqs
            .receive_message()
            .queue_url(&self.settings["STRIPE_QUEUE_URL"])
            .max_number_of_messages(10);
        let answer = receive
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send()
            .await
            .expect("receive");
        let mut event = SqsEvent::default();
        let mut handles = HashMap::new();
        for message in answer.messages() {
            let attributes = message.attributes().into_iter().flatten();
            let mut record = sqs_message(message.body().unwrap_or_default(), "");
            record.attributes =
                attributes.map(|(name, value)| (name.as_str().to_owned(), value.clone())).collect();
            record.message_id = message.message_id().map(str::to_owned);
            record.receipt_handle = message.receipt_handle().map(str::to_owned);
            handles.insert(
                message.message_id().unwrap_or_default().to_owned(),
                message.receipt_handle().unwrap_or_default().to_owned(),
            );
            event.records.push(record);
        }
        (event, handles)
    }

    /// Deletes what did not fail, and returns the rest.
    async fn settle(
        &self,
        failed: &SqsBatchResponse,
        handles: HashMap<String, String>,
    ) -> Vec<String> {
        let mut stayed = Vec::new();
        for (id, handle) in handles {
            if failed.batch_item_failures.iter().any(|failure| failure.item_identifier == id) {
                stayed.push(handle);
            } else {
                self.sqs
                    .delete_message()
                    .queue_url(&self.settings["STRIPE_QUEUE_URL"])
                    .receipt_handle(handle)
                    .send()
                    .await
                    .expect("delete");
            }
        }
        stayed
    }

    /// How many messages the queue of events holds, in flight or not.
    ///
    /// # Panics
    /// Where the queue fails.
    pub async fn queued(&self) -> u32 {
        self.messages("STRIPE_QUEUE_URL").await
    }

    /// The bodies on the dead-letter queue, which stay there.
    ///
    /// # Panics
    /// Where the queue fails.
    pub async fn dead_letters(&self) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            let receive = self.sqs.receive_message().queue_url(&self.settings["STRIPE_DLQ_URL"]);
            let answer = receive.max_number_of_messages(10).send().await.expect("receive");
            if answer.messages().is_empty() {
                return bodies;
            }
            let new = answer.messages().iter().filter_map(|message| message.body());
            bodies.extend(new.map(str::to_owned));
        }
    }

    /// How often the outbox was woken.
    ///
    /// # Panics
    /// Where the queue fails.
    pub async fn woken(&self) -> u32 {
        self.messages("PROVISIONING_QUEUE_URL").await
    }

    /// How often a run was asked for.
    ///
    /// # Panics
    /// Where the queue fails.
    pub async fn runs_asked_for(&self) -> u32 {
        self.messages("RENEWAL_QUEUE_URL").await
    }

    async fn messages(&self, queue: &str) -> u32 {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let ask = self
            .sqs
            .get_queue_attributes()
            .queue_url(&self.settings[queue])
            .set_attribute_names(Some(names.to_vec()));
        let answer = ask.send().await.expect("attributes");
        names.iter().filter_map(|name| answer.attributes()?.get(name)?.parse::<u32>().ok()).sum()
    }

    /// Applies an event without the queue, and tells whether its message may leave the queue.
    pub async fn apply(&self, event: &Value) -> bool {
        self.apply_received(event, 1).await
    }

    /// The same for a message that the queue hands out for the `receives`th time.
    pub async fn apply_received(&self, event: &Value, receives: u32) -> bool {
        apply_by(&self.events, event, receives).await
    }
}
