//! Stripe, and services that hang.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use stripe_events::StripeEvents;
use tests::proxy::Proxy;
use tests::{World, apply_by, text};

use super::{made, nothing, once, tries};

/// A function's instance with a Stripe of its own faults.
async fn behind_stripe(world: &World) -> (Proxy, StripeEvents) {
    let proxy = Proxy::start(
        world.settings["STRIPE_API_BASE"]
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned(),
    );
    let env = world.env(&[("STRIPE_API_BASE", &format!("http://127.0.0.1:{}", proxy.port()))]);
    (proxy, StripeEvents::start(&env, world.clock.reader()).await.expect("stripe-events"))
}

#[tokio::test]
async fn a_stripe_that_is_stopped_or_cut_leaves_the_message_and_its_reason_until_it_returns() {
    let world = World::new().await;
    let (proxy, events) = behind_stripe(&world).await;
    let (_, event) = world.paid_checkout("Measured", "jane@cut.example");
    assert!(apply_by(&events, &event, 1).await);
    let whole = proxy.sent();
    // Both reads on one connection; the session's is the longer one. Up to its end no try comes
    // through; after it only the second read is cut, and its own next try succeeds.
    let cuts: Vec<_> = (0..=5)
        .map(|step| (Some(whole * step / 10), false))
        .chain([7, 8, 9].map(|step| (Some(whole * step / 10), true)))
        .collect();
    join_all([vec![(None, false)], cuts].concat().into_iter().map(async |(cut, comes_through)| {
        let company = format!("Stripe cut at {cut:?}");
        let (proxy, events) = behind_stripe(&world).await;
        let (_, event) = world.paid_checkout(&company, "jane@cut.example");
        cut.map_or_else(|| proxy.refuse(), |cut| proxy.cut_after(cut));
        assert_eq!(apply_by(&events, &event, 1).await, comes_through, "{company}");
        if !comes_through {
            assert_eq!(made(&world, &company).await, nothing(), "{company}");
            let tries = tries(&world, &event).await;
            assert_eq!(
                (&tries["status"], &tries["lost_tries"], &tries["transient_errors"]),
                (&json!("waiting"), &json!(0), &json!(1)),
                "{company}"
            );
            assert!(text(&tries["last_error"]).starts_with("Stripe: "), "{tries}");
            proxy.pass();
            assert!(apply_by(&events, &event, 2).await, "{company}");
        }
        assert_eq!(made(&world, &company).await, once(), "{company}");
        assert_eq!(tries(&world, &event).await["status"], "applied", "{company}");
    }))
    .await;
}

/// The only test here that waits for time-outs, its cases at once: the 11 s of a read of Stripe; a
/// connection's 5 s, twice; 25 s on a connection that was held, then 5 s for the note; and the
/// outbox's 10 s on one.
#[tokio::test]
async fn a_service_that_hangs_gives_the_batch_back_in_time_and_is_made_good_when_it_answers() {
    let hung = async |setting: &str, warm: bool, limit: u64| {
        let mut world = World::new().await;
        let proxy = world.behind(setting).await;
        if warm {
            let (_, event) = world.paid_checkout("Before", "jane@hung.example");
            assert!(world.apply(&event).await);
        }
        let (_, event) = world.paid_checkout("Hung", "jane@hung.example");
        proxy.stall();
        let began = Instant::now();
        assert!(!world.apply(&event).await, "{setting}");
        let took = began.elapsed();
        assert_eq!(made(&world, "Hung").await, nothing(), "{setting}");
        if setting == "STRIPE_API_BASE" {
            assert!(
                text(&tries(&world, &event).await["last_error"]).starts_with("Stripe: "),
                "the service that hung is named"
            );
        }
        proxy.pass();
        assert!(world.apply_received(&event, 2).await, "{setting}");
        assert_eq!(made(&world, "Hung").await, once(), "{setting}");
        assert!(took < Duration::from_secs(limit), "{setting}, warm: {warm}: {took:?}");
    };
    let outbox = async {
        let mut world = World::new().await;
        let proxy = world.behind("DATABASE_PORT").await;
        let (_, event) = world.paid_checkout("Hung", "jane@hung.example");
        // The connection that will hang, before there is anything to do on it.
        assert_eq!(world.outbox().await["done"], 0);
        assert!(world.apply(&event).await);
        proxy.stall();
        let began = Instant::now();
        assert!(world.provisioning.handle().await.is_err());
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        proxy.pass();
        assert_eq!(world.outbox().await["done"], 2);
    };
    tokio::join!(
        hung("STRIPE_API_BASE", true, 16),
        hung("DATABASE_PORT", false, 20),
        hung("DATABASE_PORT", true, 35),
        outbox
    );
}

/// A refused key counts as away, and is not waited for: each receive costs no second.
#[tokio::test]
async fn a_day_without_stripe_is_noted_and_ends_applied_once() {
    let world = World::new().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    for receives in 1..=100 {
        match receives {
            // Three tries each.
            1..=2 => world.stripe.fail_next(3, 503),
            _ => world.stripe.fail_next(1, 401),
        }
        assert!(!world.apply_received(&event, receives).await, "{receives}");
        let tries = tries(&world, &event).await;
        assert_eq!(
            (&tries["status"], &tries["lost_tries"], &tries["transient_errors"]),
            (&json!("waiting"), &json!(0), &json!(receives))
        );
        assert!(text(&tries["last_error"]).starts_with("Stripe: "), "{tries}");
    }
    assert_eq!(made(&world, "Acme").await, nothing());
    assert!(world.apply_received(&event, 101).await);
    assert_eq!(
        (world.recorded(&event).await.0, made(&world, "Acme").await, world.count("flags").await),
        ("applied".to_owned(), once(), 0)
    );
}

/// The dead-letter queue is for what could not even be recorded.
#[tokio::test]
async fn more_than_a_day_without_stripe_is_recorded_as_failed_and_applies_when_it_is_replayed() {
    let world = World::new().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    world.stripe.fail_next(3, 401);
    assert!(!world.apply_received(&event, 119).await);
    for receives in [120, 121] {
        assert!(
            world.apply_received(&event, receives).await,
            "{receives}: recorded, so its message may go"
        );
        let (status, reason) = world.recorded(&event).await;
        assert!(status == "failed" && reason.starts_with("Stripe: "), "{status}: {reason}");
    }
    assert_eq!(
        world.row("SELECT kind, stripe_event_id FROM flags").await,
        json!({"kind": "upstream", "stripe_event_id": event["id"]})
    );
    assert_eq!(made(&world, "Acme").await, nothing());
    assert!(world.apply(&event).await);
    assert_eq!(
        (world.recorded(&event).await.0, made(&world, "Acme").await),
        ("applied".to_owned(), once())
    );
}
