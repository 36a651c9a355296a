//! The queue.

use lambda_http::http::StatusCode;
use serde_json::{Value, json};
use tests::{World, text};

use super::{made, once, times};

/// Many customers at once, each with one checkout delivered several times, and other events,
/// while the database is away, then comes and goes.
#[tokio::test]
async fn two_hundred_events_on_the_real_elasticmq_outlast_a_database_that_comes_and_goes() {
    let mut world = World::new().await;
    let database = world.behind("DATABASE_PORT").await;
    let customers: Vec<Vec<Value>> = (0..20)
        .map(|n| {
            let (_, completed) =
                world.paid_checkout(&format!("Many {n:02}"), &format!("admin{n:02}@many.example"));
            let customer = &completed["data"]["object"]["customer"];
            let of = |event_type: &str| {
                let event = world.event(event_type);
                assert_eq!(&event["data"]["object"]["customer"], customer);
                event
            };
            let (created, paid) = (of("customer.subscription.created"), of("invoice.paid"));
            // Who comes first differs from customer to customer.
            let kinds = [
                &completed, &created, &paid, &completed, &completed, &paid, &created, &completed,
                &completed, &paid,
            ];
            let mixed = kinds.iter().cycle().skip(n % 10).take(10).enumerate();
            mixed
                .map(|(place, event)| {
                    let mut event = (*event).clone();
                    event["id"] = json!(format!("evt_{n:02}x{place}"));
                    event
                })
                .collect()
        })
        .collect();
    for place in 0..10 {
        for events in &customers {
            assert_eq!(world.post(&events[place]).await.status(), StatusCode::OK);
        }
    }
    database.refuse();
    for _ in 0..2 {
        assert_eq!(world.round().await, 200);
    }
    assert_eq!((world.queued().await, world.count("stripe_events").await), (200, 0));

    let mut left = vec![200];
    // First each connection lasts for a few events, then it is refused nine times of ten.
    for cut in [Some(40_000), Some(40_000), None] {
        cut.map_or_else(|| database.fail_percent(90), |bytes| database.cut_after(bytes));
        world.round().await;
        left.push(world.queued().await);
        database.refuse();
    }
    assert!(
        left.is_sorted_by(|before, after| before > after) && left[3] > 0,
        "each time some came through, never all: {left:?}"
    );
    database.pass();
    // A group of which a part is handed out lets the other part wait for the next round.
    for _ in 0..3 {
        assert_eq!(world.round().await, 0);
    }
    assert_eq!(world.queued().await, 0);
    assert_eq!(made(&world, "Many %").await, times(20));
    assert_eq!(
        world.count("tenants WHERE name LIKE 'Many %' AND stripe_customer_id IS NOT NULL").await,
        20
    );
    let statuses = "SELECT event_type LIKE 'checkout%' AS checkout, status, count(*)
                    FROM stripe_events GROUP BY 1, 2 ORDER BY 1";
    assert_eq!(
        world.rows(statuses).await,
        [
            json!({"checkout": false, "status": "applied", "count": 100}),
            json!({"checkout": true, "status": "applied", "count": 100})
        ]
    );
    for events in customers {
        let posted: Vec<_> = events.iter().map(|event| json!({"event_id": event["id"]})).collect();
        let recorded = format!(
            "SELECT event_id FROM stripe_events WHERE customer_id = '{}' ORDER BY recorded_at",
            text(&events[0]["data"]["object"]["customer"])
        );
        assert_eq!(world.rows(&recorded).await, posted);
    }
    assert_eq!(world.count("flags").await, 0);
}

/// A send whose answer is lost is repeated by Stripe; the queue knows the event's id.
#[tokio::test]
async fn a_queue_that_is_stopped_or_cut_is_503_and_ends_with_one_message_an_event() {
    let mut world = World::new().await;
    let queues = world.queues_behind();
    let (_, measured) = world.paid_checkout("Acme 0", "jane@acme.example");
    assert_eq!(world.post(&measured).await.status(), StatusCode::OK);
    let whole = queues.sent();
    let mut events = vec![measured];
    // In the middle, and between the queue's having it and its answer.
    for (n, cut) in [None, Some(whole / 2), Some(whole)].into_iter().enumerate() {
        let (_, event) = world.paid_checkout(&format!("Acme {n}"), "jane@acme.example");
        queues.refuse();
        cut.map_or_else(|| queues.refuse(), |cut| queues.cut_after(cut));
        assert_eq!(world.post(&event).await.status(), StatusCode::SERVICE_UNAVAILABLE, "{cut:?}");
        queues.pass();
        assert_eq!(world.post(&event).await.status(), StatusCode::OK, "{cut:?}");
        events.push(event);
        assert_eq!(world.queued().await as usize, events.len(), "{cut:?}");
    }
    assert_eq!(world.round().await, 0);
    assert_eq!(world.count("stripe_events WHERE status = 'applied'").await, 4);
}

/// The minute tick finds the steps; the wake and the rest are only haste and manners.
#[tokio::test]
async fn a_queue_that_is_away_after_the_commit_costs_no_event() {
    let mut world = World::new().await;
    let queues = world.queues_behind();
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    queues.refuse();
    assert!(world.apply(&event).await);
    assert_eq!(made(&world, "Acme").await, once());
    assert_eq!(world.outbox().await["done"], 2);
}
