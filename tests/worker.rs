//! One call of a function in a process of its own, so that a test can kill it at a named point
//! (`shared::fault`).
//!
//! `worker ingest|apply[:RECEIVES]|outbox|renewal POINT` takes the settings from the environment
//! and the event from standard input; POINT may be `none`.

use std::io::Read;

use aws_lambda_events::sqs::SqsEvent;
use provisioning::Provisioning;
use renewal::Renewals;
use shared::base::clock::Clock;
use shared::base::fault;
use shared::base::fault::Point;
use shared::process::config::Env;
use stripe_events::StripeEvents;
use webhook::Webhook;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (what, point) = (args.next().expect("what to do"), args.next().expect("where to die"));
    let env = Env::process();
    shared::process::telemetry::init(&env).expect("logs");
    let mut event = String::new();
    std::io::stdin().read_to_string(&mut event).expect("an event");
    if let Some(point) = Point::ALL.into_iter().find(|known| format!("{known:?}") == point) {
        fault::arm(point);
    }
    let (what, receives) = what.split_once(':').unwrap_or((&what, "1"));
    match what {
        "ingest" => {
            let webhook = Webhook::start(&env, Clock::system()).await.expect("webhook");
            let signature = shared::domain::events::signature::sign(
                &tests::stack("STRIPE_WEBHOOK_SECRET"),
                webhook.clock.now().as_second(),
                event.as_bytes(),
            );
            let answer =
                webhook.handle(tests::request(lambda_http::Body::Text(event), &signature)).await;
            assert_eq!(answer.status(), 200);
        }
        "apply" => {
            let events = StripeEvents::start(&env, Clock::system()).await.expect("stripe-events");
            let mut batch = SqsEvent::default();
            let mut message = tests::sqs_message(&event, "group");
            message.attributes.insert("ApproximateReceiveCount".to_owned(), receives.to_owned());
            batch.records.push(message);
            assert!(events.handle(batch).await.batch_item_failures.is_empty());
        }
        "outbox" => {
            let provisioning =
                Provisioning::start(&env, Clock::system()).await.expect("provisioning");
            provisioning.handle().await.expect("a run");
        }
        "renewal" => {
            let renewals = Renewals::start(&env, Clock::system()).await.expect("renewal");
            renewals.handle(serde_json::from_str(&event).expect("JSON")).await.expect("a run");
        }
        other => panic!("{other}?"),
    }
}
