//! A model test: customers lead random lives at Stripe. What one database makes of their events in
//! order, as they happen, another must make of the same events shuffled, doubled and late, while
//! its connections break and Stripe fails; and both must say what Stripe says.
//!
//! A seed is a life. Each run leads new ones: their seeds begin with its date. `cargo xtask lives
//! 10000` leads more of them; `cargo xtask lives --seed 17` leads one again.
//!
//! After each life, what Stripe collected was given, or a flag says why not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lambda_events::sqs::SqsEvent;
use futures::future::join_all;
use jiff::Timestamp;
use provisioning::Provisioning;
use serde_json::{Value, json};
use shared::base::clock::Clock;
use simulators::keycloak::Fake;
use simulators::stripe::{Dunning, GivenUp, Simulator};
use stripe_events::StripeEvents;
use tests::proxy::Proxy;
use tests::{Luck, TestClock, stack, text};

use self::life::{EUROS, Life, PLANS, SLOT};
use self::side::{Side, env};

mod life;
mod side;

/// Lives in the suite.
const LIVES: u64 = 500;

/// Lives that are led side by side.
const WORKERS: u64 = 8;

#[expect(clippy::disallowed_methods, reason = "how many, and which, is said at the command line")]
fn said(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The first seed of a run: of 30 November 2026, 2026113000000.
fn today() -> u64 {
    let day = Clock::system().now().strftime("%Y%m%d00000").to_string();
    day.parse().expect("a number")
}

/// Hands a batch over, and returns what stays.
async fn hand_over(functions: &StripeEvents, batch: Vec<Value>) -> Vec<Value> {
    let mut event = SqsEvent::default();
    event.records = batch
        .iter()
        .map(|event| tests::sqs_message(&event.to_string(), &text(&event["id"])))
        .collect();
    let ids: Vec<Option<String>> =
        event.records.iter().map(|record| record.message_id.clone()).collect();
    let failed = functions.handle(event).await;
    let stays = |id: &Option<String>| {
        failed
            .batch_item_failures
            .iter()
            .any(|failure| Some(&failure.item_identifier) == id.as_ref())
    };
    batch.into_iter().zip(&ids).filter(|(_, id)| stays(id)).map(|(event, _)| event).collect()
}

/// What a Stripe subscription must be here, read off Stripe's own objects by rules written down
/// once more.
fn expected(stripe: &Simulator, id: &str, had: &Value, now: Timestamp) -> Value {
    let subscription = stripe.object(id).expect("a subscription");
    let status = text(&subscription["status"]);
    let end = subscription["items"]["data"][0]["current_period_end"].as_i64().expect("an end");
    let ours = match status.as_str() {
        // Paid while it was paused, for a time that is over: the next invoice decides.
        "active" if had["status"] == "SUSPENDED" && end <= now.as_second() => "SUSPENDED",
        "active" => "ACTIVE",
        "trialing" => "TRIAL",
        // A suspension that grace does not end.
        "past_due" if had["status"] == "SUSPENDED" => "SUSPENDED",
        "past_due" => "GRACE",
        "canceled" | "incomplete_expired" => "EXPIRED",
        "unpaid" | "paused" => "SUSPENDED",
        other => panic!("{other} is no status of a life"),
    };
    let price = text(&subscription["items"]["data"][0]["price"]["id"]);
    let is_price = |item: &str, price: &str| item.trim_end_matches(EUROS) == price;
    let (_, plan, devices) =
        PLANS.into_iter().find(|(id, ..)| is_price(&price, id)).expect("a plan's price");
    let count = |item: &Value| item["quantity"].as_i64().expect("a quantity");
    let items = subscription["items"]["data"].as_array().expect("items");
    let slots: i64 =
        items.iter().filter(|item| is_price(&text(&item["price"]["id"]), SLOT)).map(count).sum();
    let quantity = count(&items[0]);
    json!({"status": ours, "plan_id": plan, "quantity": quantity,
        "device_limit": quantity * i64::from(devices), "stripe_status": status,
        "stripe_currency": subscription["currency"],
        "slots_at_stripe": if ours == "EXPIRED" { 0 } else { slots }})
}

/// Leads one life; what differs, if anything.
async fn lead(seed: u64, in_order: &Side, disorder: &Side) -> Result<(), String> {
    let stripe = tests::stripe().await;
    let mut luck = Luck(seed);
    let then = [GivenUp::Canceled, GivenUp::Unpaid, GivenUp::PastDue][luck.below(3)];
    stripe.set_dunning(Dunning { retry_days: vec![3, 5, 7], then });
    let start: Timestamp = "2026-01-31T10:00:00Z".parse().expect("an instant");
    stripe.set_now(start);
    let clock = TestClock::stopped_at(start);
    let (first, second) =
        (in_order.functions(&stripe, clock.reader()), disorder.functions(&stripe, clock.reader()));
    let proxy = disorder.proxy.as_ref().expect("a proxy");

    let currency = if luck.percent(30) { "eur" } else { "usd" };
    let mut life = Life {
        luck,
        currency,
        stripe: &stripe,
        clock,
        name: format!("life-{seed}"),
        customer: None,
        subscription: None,
        paying_later: None,
        debits: false,
        orders: Vec::new(),
        seen: 0,
    };
    life.subscribe();
    let (mut story, mut late) = (Vec::new(), Vec::new());
    let steps = 4 + life.luck.below(14);
    for _ in 0..=steps {
        late.extend(follow(&mut life, &first).await?);
        // Now and then the other side gets some of what has happened, as luck will have it.
        if life.luck.percent(40) {
            deliver_some(&mut life.luck, &second, &stripe, proxy, &mut late).await;
        }
        if life.luck.percent(15) {
            // Slots are ordered by the token of a tenant, for a MAIN that is there: both sides have
            // heard all by then.
            deliver_all(&mut life.luck, &second, &stripe, proxy, &mut late)
                .await
                .map_err(|left| format!("{left} events stay; {story:?}"))?;
            if life.order(&first, in_order, disorder).await {
                story.push("slots are ordered");
            }
        }
        story.push(life.step());
    }
    late.extend(follow(&mut life, &first).await?);
    deliver_all(&mut life.luck, &second, &stripe, proxy, &mut late)
        .await
        .map_err(|left| format!("{left} events stay; {story:?}"))?;
    for functions in [&first, &second] {
        functions.applier.take_up_waiting().await.map_err(|error| error.to_string())?;
    }
    let ids: Vec<String> = stripe
        .events()
        .iter()
        .filter(|event| event["type"] == "customer.subscription.created")
        .map(|event| text(&event["data"]["object"]["id"]))
        .collect();
    let (mut calm, mut wild) = (in_order.state(&ids).await, disorder.state(&ids).await);
    if life.debits {
        for had in calm.iter_mut().chain(&mut wild) {
            had["grace_end"] = json!(had["grace_end"].is_string());
        }
    }
    for side in [in_order, disorder] {
        let lost = side.collected_for_nothing(&collected(&stripe)).await;
        if !lost.is_empty() {
            return Err(format!("collected, not given and not flagged: {lost:?}; {story:?}"));
        }
    }
    if calm != wild {
        return Err(format!(
            "in order:    {}\nin disorder: {}\n{story:?}",
            json!(calm),
            json!(wild)
        ));
    }
    for main in calm.iter().filter(|had| had["subscription_type"] == "MAIN") {
        // Bought beside the plan: no order, and no Stripe subscription of its own.
        let extra: i64 = calm
            .iter()
            .filter(|addon| addon["parent"] == main["stripe_subscription_id"])
            .filter(|addon| addon["stripe_checkout_session_id"].is_null())
            .filter_map(|addon| addon["device_limit"].as_i64())
            .sum();
        let mut had = main.clone();
        had["slots_at_stripe"] = json!(extra);
        let had = &had;
        let expected =
            expected(&stripe, &text(&had["stripe_subscription_id"]), had, life.clock.now());
        for (field, value) in expected.as_object().into_iter().flatten() {
            if had[field] != *value {
                return Err(format!("{field}: Stripe's {value}, ours {}; {story:?}", had[field]));
            }
        }
    }
    Ok(())
}

/// What Stripe has collected for subscriptions: which, up to when, by which invoice.
fn collected(stripe: &Simulator) -> Vec<(String, Timestamp, String)> {
    let events = stripe.events();
    let paid = events.iter().filter(|event| event["type"] == "invoice.paid");
    paid.filter_map(|event| {
        let invoice = &event["data"]["object"];
        let subscription = invoice["parent"]["subscription_details"]["subscription"].as_str()?;
        let lines = invoice["lines"]["data"].as_array()?;
        let end = lines.iter().filter_map(|line| line["period"]["end"].as_i64()).max()?;
        let end = Timestamp::from_second(end).ok()?;
        (invoice["amount_paid"].as_i64()? > 0)
            .then(|| (subscription.to_owned(), end, text(&invoice["id"])))
    })
    .collect()
}

/// Hands what has happened to the side of order, and returns it.
async fn follow(life: &mut Life<'_>, functions: &StripeEvents) -> Result<Vec<Value>, String> {
    let news = tests::new_events(life.stripe, &mut life.seen);
    for batch in news.chunks(10) {
        if let Some(event) = hand_over(functions, batch.to_vec()).await.first() {
            return Err(format!("in order, {} stayed", event["type"]));
        }
    }
    Ok(news)
}

/// Hands all of it over, some at a time; how much is never applied, if any.
async fn deliver_all(
    luck: &mut Luck,
    functions: &StripeEvents,
    stripe: &Simulator,
    proxy: &Proxy,
    late: &mut Vec<Value>,
) -> Result<(), usize> {
    for _ in 0..300 {
        if late.is_empty() {
            return Ok(());
        }
        deliver_some(luck, functions, stripe, proxy, late).await;
    }
    Err(late.len())
}

/// Hands some of what is late to the side of disorder: shuffled, some of it twice, while the
/// database or Stripe fails.
async fn deliver_some(
    luck: &mut Luck,
    functions: &StripeEvents,
    stripe: &Simulator,
    proxy: &Proxy,
    late: &mut Vec<Value>,
) {
    let mut batch = Vec::new();
    for _ in 0..=luck.below(10) {
        if late.is_empty() {
            break;
        }
        let event = late.swap_remove(luck.below(late.len()));
        let is_sent_again = luck.percent(15);
        // A queue hands no message out twice in one batch.
        if batch.iter().any(|other: &Value| other["id"] == event["id"]) {
            late.push(event);
            continue;
        }
        if is_sent_again {
            late.push(event.clone());
        }
        batch.push(event);
    }
    match luck.below(12) {
        0 => proxy.cut_after(200 + luck.below(12_000) as u64),
        1 => stripe.fail_next(1 + luck.below(3), [500, 429, 503][luck.below(3)]),
        _ => {}
    }
    late.extend(hand_over(functions, batch).await);
    proxy.pass();
    stripe.fail_no_more();
}

/// Keycloak fails as well; in the end each company has one login that bought what had not ended
/// before it was heard of.
async fn log_ins(side: &Side, keycloak: &Fake) -> Result<(), String> {
    let settings = [
        ("KEYCLOAK_URL", keycloak.base_url()),
        ("KEYCLOAK_REALM", stack("KEYCLOAK_REALM")),
        ("KEYCLOAK_CLIENT_ID", stack("KEYCLOAK_CLIENT_ID")),
        ("STRIPE_API_BASE", "http://127.0.0.1:9".to_owned()),
        ("SMTP_HOST", stack("SMTP_HOST")),
        ("SMTP_FROM", "billing@pulse.example".to_owned()),
    ];
    // Later than any life.
    let clock = TestClock::stopped_at("2028-01-01T00:00:00Z".parse().expect("an instant"));
    let provisioning = Provisioning::start(&env(&side.settings, &settings), clock.reader())
        .await
        .expect("provisioning");
    for round in 0..200 {
        keycloak.fail_next(round % 3, 503);
        provisioning.outbox.run(Duration::from_mins(1)).await.map_err(|error| error.to_string())?;
        clock.pass(600);
        let open: i64 = side
            .owner
            .query_one("SELECT count(*) FROM outbox_steps WHERE status <> 'done'", &[])
            .await
            .expect("steps")
            .get(0);
        if open == 0 {
            break;
        }
    }
    let companies = side
        .owner
        .query(
            "SELECT DISTINCT tenant_id FROM subscription_audit WHERE tenant_id LIKE 'life-%'
             AND event_type = 'STRIPE_CHECKOUT_COMPLETED'
             AND new_state ->> 'subscription_type' = 'MAIN'
             AND new_state ->> 'status' <> 'EXPIRED' ORDER BY 1",
            &[],
        )
        .await
        .expect("tenants");
    let companies: Vec<String> = companies.iter().map(|row| row.get(0)).collect();
    let mut users: Vec<String> = keycloak
        .users()
        .iter()
        .filter_map(|user| user.attributes["tenant_id"].first().cloned())
        .collect();
    users.sort();
    if users == companies {
        Ok(())
    } else {
        Err(format!("companies {companies:?}, users {users:?}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_in_any_order_twice_late_and_through_failures_make_what_stripe_says() {
    shared::process::tls::install();
    let only = said("PULSE_SEED");
    let first = today();
    let seeds =
        only.map_or(first..first + said("PULSE_LIVES").unwrap_or(LIVES), |seed| seed..seed + 1);
    let next = Arc::new(AtomicU64::new(seeds.start));
    let workers = (0..WORKERS.min(seeds.end - seeds.start)).map(|_| {
        let (next, end) = (Arc::clone(&next), seeds.end);
        tokio::spawn(async move {
            let (in_order, disorder, keycloak) =
                (Side::new(false).await, Side::new(true).await, tests::keycloak(None).await);
            let mut wrong = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= end {
                    break;
                }
                if let Err(what) = lead(seed, &in_order, &disorder).await {
                    wrong.push(format!("PULSE_SEED={seed}: {what}"));
                }
            }
            for side in [&in_order, &disorder] {
                let failed = side.failed().await;
                if !failed.is_empty() {
                    wrong.push(format!("failed events: {}", json!(failed)));
                }
            }
            if let Err(what) = log_ins(&disorder, &keycloak).await {
                wrong.push(what);
            }
            wrong
        })
    });
    let wrong: Vec<String> = join_all(workers)
        .await
        .into_iter()
        .flat_map(|worker| worker.expect("a worker's end"))
        .collect();
    assert!(wrong.is_empty(), "{} of {seeds:?}\n{}", wrong.len(), wrong.join("\n\n"));
}
