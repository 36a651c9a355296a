//! The harness of the integration tests: a `World` is one test's own database, queues, Stripe and
//! Keycloak, and the functions on them.
//!
//! `PostgreSQL`, the queue and Secrets Manager are the real ones of the stack that `cargo xtask
//! test` starts; fakes stand at the socket, never in place of a type of ours. Nothing here knows a
//! rule of the product.

use std::path::PathBuf;

use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use lambda_http::{Body, Request};
use serde_json::Value;
use shared::domain::events::kind::endpoint_types;
use simulators::stripe::{Payer, Simulator};
use stripe_events::StripeEvents;

pub use crate::clock::TestClock;
use crate::environment::unique;
pub use crate::environment::{SURROUNDINGS, aws, connect, database, keycloak, stack, stripe};
pub use crate::luck::Luck;
pub use crate::world::World;

pub mod api;
mod clock;
pub mod company;
mod environment;
mod luck;
pub mod proxy;
pub mod queue;
pub mod realm;
pub mod shop;
pub mod smtp;
mod world;

/// Applies an event by this instance of the function, as a message that the queue hands out for the
/// `receives`th time, and returns whether it may leave the queue.
pub async fn apply_by(events: &StripeEvents, event: &Value, receives: u32) -> bool {
    let mut batch = SqsEvent::default();
    let mut message = sqs_message(&event.to_string(), "group");
    message.attributes.insert("ApproximateReceiveCount".to_owned(), receives.to_string());
    batch.records.push(message);
    events.handle(batch).await.batch_item_failures.is_empty()
}

/// The events of types that the endpoint listens to, since the last call, oldest first. `seen`
/// counts all of Stripe's events.
#[must_use]
pub fn new_events(stripe: &Simulator, seen: &mut usize) -> Vec<Value> {
    let events = stripe.events();
    let before = std::mem::replace(seen, events.len());
    events
        .into_iter()
        .skip(before)
        .filter(|event| endpoint_types().iter().any(|known| event["type"] == *known))
        .collect()
}

/// Platform staff, as the audit knows them.
#[must_use]
pub fn operator() -> shared::base::caller::Person {
    shared::base::caller::Person { id: "operator-1".to_owned(), ip: None }
}

/// The string in a JSON value.
///
/// # Panics
/// Where it is none.
#[must_use]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string")).to_owned()
}

/// One message of a batch.
#[must_use]
pub fn sqs_message(body: &str, group: &str) -> SqsMessage {
    let mut message = SqsMessage::default();
    message.message_id = Some(unique());
    message.body = Some(body.to_owned());
    message.attributes.insert("MessageGroupId".to_owned(), group.to_owned());
    message
}

/// A delivery as the webhook's handler gets it.
///
/// # Panics
/// Never, for well-formed signatures.
#[must_use]
pub fn request(body: Body, signature: &str) -> Request {
    lambda_http::http::Request::builder()
        .method("POST")
        .uri("/webhook/stripe")
        .header("stripe-signature", signature)
        .body(body)
        .expect("a request")
}

/// Who pays at a checkout.
#[must_use]
pub fn payer(email: &str) -> Payer {
    let address = simulators::stripe::Address {
        line1: Some("1 Main St".to_owned()),
        city: Some("Springfield".to_owned()),
        country: Some("US".to_owned()),
        ..Default::default()
    };
    Payer {
        email: email.to_owned(),
        name: Some("Jane Doe".to_owned()),
        phone: None,
        address: Some(address),
    }
}

/// Holds what the code says now against a file that people review. `cargo xtask openapi` writes the
/// file again.
///
/// # Panics
/// Where they differ.
pub fn reviewed(file: &str, now: &str) {
    let path = repository(file);
    #[expect(clippy::disallowed_methods, reason = "a developer's switch")]
    if std::env::var("PULSE_WRITE_REVIEWED").is_ok() {
        std::fs::write(&path, now).expect("written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let changed = kept.lines().zip(now.lines()).find(|(kept, now)| kept != now);
    assert!(
        kept == now,
        "{file} is stale; if the change is meant, run `cargo xtask openapi` and review it. First \
         difference: {changed:?}"
    );
}

/// Every Rust file below a folder of the repository.
///
/// # Panics
/// Where the folder cannot be read.
#[must_use]
pub fn sources(folder: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![repository(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// Where a file of the repository is.
#[must_use]
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
