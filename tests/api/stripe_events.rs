//! `operations`: Stripe's events, as operators read, mend and fetch them.

use std::time::{Duration, Instant};

use aws_sdk_sqs::types::QueueAttributeName;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use shared::domain::events::backfill::Backfiller;
use tests::api::{Api, Reply, SOURCE_IP, Who};
use tests::proxy::Proxy;
use tests::{World, payer, text};

const EVENTS: &str = "/api/v1/operator/stripe-events";

async fn list(api: &Api, query: &str) -> Vec<Value> {
    let answer = api.get(Who::Operator, &format!("{EVENTS}{query}")).await.expect(200);
    let events = answer["events"].as_array().expect("a list").clone();
    assert_eq!(answer["count"], events.len());
    events
}

async fn detail(api: &Api, event: &Value) -> Value {
    api.get(Who::Operator, &format!("{EVENTS}/{}", text(&event["id"]))).await.expect(200)
}

async fn act(api: &Api, event: &Value, action: &str, body: Option<Value>) -> Reply {
    api.send(Who::Admin, "POST", &format!("{EVENTS}/{}/{action}", text(&event["id"])), &[], body)
        .await
}

async fn backfill(api: &Api, from: Timestamp, to: Timestamp, cursor: &Value) -> Reply {
    api.write(
        "POST",
        &format!("{EVENTS}/backfill"),
        json!({"from": from, "to": to, "cursor": cursor}),
    )
    .await
}

/// A paid checkout that names a tenant which is not there: failed, until an operator adds it.
async fn failed(world: &World, tenant: &str) -> Value {
    let session = world.checkout("price_pro_month", &[("plan_id", "pro"), ("tenant_id", tenant)]);
    world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
    let event = world.event("checkout.session.completed");
    world.receive(&[&event]).await;
    assert_eq!(world.recorded(&event).await.0, "failed");
    event
}

async fn audited(api: &Api, event_type: &str) -> Vec<Value> {
    let answer = api
        .get(Who::Operator, &format!("/api/v1/operator/audit?event_type={event_type}"))
        .await
        .expect(200);
    answer["audit"].as_array().expect("a list").clone()
}

fn hours_ago(hours: i64) -> Timestamp {
    shared::base::clock::Clock::system().now() - SignedDuration::from_hours(hours)
}

#[tokio::test]
async fn events_are_listed_latest_first_by_any_filter_and_page_and_read_with_what_they_say() {
    let world = World::new().await;
    let api = world.api().await;
    let failed = failed(&world, "nobody").await;
    let (_, applied) = world.paid_checkout("Acme", "jane@acme.example");
    let paid = world.event("invoice.paid");
    world.receive(&[&applied]).await;
    world.receive(&[&paid]).await;
    let (_, unknown) = world.paid_checkout("Later", "joe@later.example");
    let waiting = world.event("customer.subscription.created");
    world.receive(&[&waiting]).await;

    let ids = async |query: &str| {
        list(&api, query).await.iter().map(|event| text(&event["event_id"])).collect::<Vec<_>>()
    };
    let all: Vec<_> = [&waiting, &paid, &applied, &failed].map(|event| text(&event["id"])).into();
    assert_eq!(ids("").await, all);
    assert_eq!(ids("?status=applied").await, all[1..3]);
    assert_eq!(ids("?status=failed").await, all[3..]);
    assert_eq!(ids("?event_type=invoice.paid").await, all[1..2]);
    assert_eq!(ids("?tenant_id=acme").await, all[1..3]);
    assert_eq!(
        ids(&format!("?customer_id={}", text(&paid["data"]["object"]["customer"]))).await,
        all[1..3]
    );
    assert_eq!(
        ids(&format!("?stripe_subscription_id={}", text(&waiting["data"]["object"]["id"]))).await,
        all[..1]
    );
    assert_eq!(ids("?status=applied&event_type=invoice.paid&tenant_id=acme").await, all[1..2]);
    assert_eq!(ids("?status=dismissed").await, [""; 0]);
    let at = text(&list(&api, "?limit=1").await[0]["recorded_at"]);
    assert_eq!(ids(&format!("?from={at}")).await, all[..1]);
    assert_eq!(ids(&format!("?to={at}")).await, all[1..]);
    assert_eq!(ids("?limit=2&offset=1").await, all[1..3]);
    let seen = api.pages(Who::Operator, &format!("{EVENTS}?limit=1"), "events").await;
    assert_eq!(seen, list(&api, "").await);

    let row = list(&api, "?status=failed").await.remove(0);
    assert!(
        row.get("payload").is_none() && text(&row["status_reason"]).contains("nobody"),
        "{row}"
    );
    let mut whole = detail(&api, &failed).await;
    assert_eq!(whole["payload"], failed["data"]["object"]);
    whole.as_object_mut().expect("an object").remove("payload");
    assert_eq!(whole, row, "and else the same");
    assert_eq!(
        (&row["event_type"], &row["livemode"], &row["api_version"]),
        (&failed["type"], &json!(false), &failed["api_version"])
    );
    assert_eq!(
        (&row["object_id"], &row["customer_id"]),
        (&failed["data"]["object"]["id"], &failed["data"]["object"]["customer"])
    );
    for count in ["lost_tries", "transient_errors", "replays"] {
        assert_eq!(row[count], 0, "{count}");
    }
    for at in ["created_at", "recorded_at", "updated_at"] {
        assert!(text(&row[at]).ends_with('Z'), "{at}");
    }
    // One whose tries failed for what may pass.
    world.stripe.fail_next(3, 503);
    assert!(!world.apply(&unknown).await);
    let tried = detail(&api, &unknown).await;
    assert_eq!((&tried["status"], &tried["transient_errors"]), (&json!("waiting"), &json!(1)));
    assert!(text(&tried["last_error"]).contains("503"), "{tried}");

    assert_eq!(
        api.get(Who::Operator, &format!("{EVENTS}/evt_unknown"))
            .await
            .problem(404, "stripe_event_not_found"),
        "Stripe event not found"
    );
    api.get(Who::Operator, &format!("{EVENTS}/cus_1")).await.problem(404, "not_found");
    let faults = api
        .get(
            Who::Operator,
            &format!(
                "{EVENTS}?status=open&customer_id=x&stripe_subscription_id=sub-1&event_id=evt_1"
            ),
        )
        .await
        .faults();
    assert_eq!(
        faults,
        [
            "customer_id must match ^cus_[A-Za-z0-9_]{1,251}$",
            "event_id is not a field of this request",
            "status must be one of applied, ignored, waiting, failed, dismissed",
            "stripe_subscription_id must match ^sub_[A-Za-z0-9_]{1,251}$",
        ]
    );
    for who in [Who::Customer("acme"), Who::Service] {
        api.get(who, EVENTS).await.problem(403, "operator_required");
        api.get(who, &format!("{EVENTS}/{}", all[0])).await.problem(403, "operator_required");
    }
}

/// Traps 45 and 54: within the queue's five minutes, during which it would drop the event's own id.
#[tokio::test]
async fn a_failed_event_is_applied_by_its_replay_after_its_cause_was_mended() {
    let world = World::new().await;
    let api = world.api().await;
    let event = failed(&world, "acme").await;
    // Not mended: it fails again.
    let replayed = act(&api, &event, "replay", None).await.expect(200);
    assert_eq!((&replayed["status"], &replayed["replays"]), (&json!("failed"), &json!(1)));
    assert_eq!((world.queued().await, world.drain().await), (1, 0));
    assert_eq!(world.recorded(&event).await.0, "failed");

    api.write("POST", "/api/v1/operator/tenants", json!({"tenant_id": "acme", "name": "Acme"}))
        .await
        .expect(201);
    assert_eq!(act(&api, &event, "replay", None).await.expect(200)["replays"], 2);
    assert_eq!(world.drain().await, 0);
    let applied = detail(&api, &event).await;
    assert_eq!(
        (&applied["status"], &applied["tenant_id"], &applied["replays"]),
        (&json!("applied"), &json!("acme"), &json!(2))
    );
    assert_eq!(
        world.count("subscriptions WHERE tenant_id = 'acme' AND status = 'ACTIVE'").await,
        1
    );
    assert_eq!(
        act(&api, &event, "replay", None).await.problem(409, "event_final"),
        "Stripe event is already applied"
    );
    assert_eq!(world.queued().await, 0, "a refusal queues nothing");

    let rows = audited(&api, "STRIPE_EVENT_REPLAYED").await;
    assert_eq!(
        rows.iter().map(|row| row["details"].clone()).collect::<Vec<_>>(),
        [json!({"replay": 2}), json!({"replay": 1})]
    );
    assert_eq!(
        (&rows[0]["actor_type"], &rows[0]["ip_address"], &rows[0]["stripe_event_id"]),
        (&json!("admin"), &json!(SOURCE_IP), &event["id"])
    );
    assert_eq!(rows[0]["previous_state"]["status"], "failed");
}

#[tokio::test]
async fn a_replay_that_the_queue_does_not_take_is_503_and_works_when_it_is_asked_for_again() {
    let world = World::new().await;
    let api = world.api().await;
    let event = failed(&world, "acme").await;
    api.write("POST", "/api/v1/operator/tenants", json!({"tenant_id": "acme", "name": "Acme"}))
        .await
        .expect(201);
    let (sqs, url) = (aws_sdk_sqs::Client::new(&tests::aws()), &world.settings["STRIPE_QUEUE_URL"]);
    sqs.delete_queue().queue_url(url).send().await.expect("gone");
    assert_eq!(
        act(&api, &event, "replay", None).await.problem(503, "unavailable"),
        "The service is not available at this moment. Try again."
    );
    let found = backfill(&api, hours_ago(1), hours_ago(-1), &Value::Null).await;
    assert_eq!(
        found.problem(503, "unavailable"),
        "The service is not available at this moment. Try again."
    );
    let again = sqs
        .create_queue()
        .queue_name(url.rsplit('/').next().expect("a name"))
        .attributes(QueueAttributeName::FifoQueue, "true");
    assert_eq!(again.send().await.expect("back").queue_url(), Some(url.as_str()));
    assert_eq!(act(&api, &event, "replay", None).await.expect(200)["replays"], 2);
    assert_eq!(world.drain().await, 0);
    assert_eq!(world.recorded(&event).await.0, "applied");
    assert_eq!(audited(&api, "STRIPE_BACKFILL").await, [Value::Null; 0], "nothing came of it");
}

#[tokio::test]
async fn an_event_that_needs_nothing_is_dismissed_with_a_note_once() {
    let world = World::new().await;
    let api = world.api().await;
    let event = failed(&world, "nobody").await;
    for (body, fault) in
        [(json!({}), "note is required"), (json!({"note": " "}), "note must not be empty")]
    {
        assert_eq!(act(&api, &event, "dismiss", Some(body)).await.faults(), [fault]);
    }
    let both = join_all(
        (0..2)
            .map(|n| act(&api, &event, "dismiss", Some(json!({"note": format!("refunded {n}")})))),
    )
    .await;
    let (mut done, mut late): (Vec<_>, Vec<_>) =
        both.into_iter().partition(|reply| reply.status == 200);
    assert_eq!(late.remove(0).problem(409, "event_final"), "Stripe event is already dismissed");
    let dismissed = done.remove(0).body;
    assert_eq!(dismissed["status"], "dismissed");
    assert!(text(&dismissed["status_reason"]).starts_with("refunded "), "{dismissed}");
    assert_eq!(dismissed, detail(&api, &event).await);
    assert!(world.apply(&event).await);
    assert_eq!(world.recorded(&event).await.0, "dismissed", "a redelivery leaves it so");
    let rows = audited(&api, "STRIPE_EVENT_DISMISSED").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0]["details"]["note"], &rows[0]["previous_state"]["status"]),
        (&dismissed["status_reason"], &json!("failed"))
    );
}

#[tokio::test]
async fn only_operator_admins_mend_and_what_is_not_recorded_is_404() {
    let world = World::new().await;
    let api = world.api().await;
    let event = failed(&world, "nobody").await;
    let before = detail(&api, &event).await;
    let range = json!({"from": hours_ago(1), "to": hours_ago(-1)});
    for (action, body) in [("replay", json!({})), ("dismiss", json!({"note": "x"}))] {
        let path = format!("{EVENTS}/{}/{action}", text(&event["id"]));
        for who in [Who::Operator, Who::Customer("acme"), Who::Service] {
            api.send(who, "POST", &path, &[], Some(body.clone()))
                .await
                .problem(403, "operator_admin_required");
            api.send(who, "POST", &format!("{EVENTS}/backfill"), &[], Some(range.clone()))
                .await
                .problem(403, "operator_admin_required");
        }
        api.send(Who::Nobody, "POST", &path, &[], Some(body.clone()))
            .await
            .problem(401, "missing_token");
        let unknown =
            api.write("POST", &format!("{EVENTS}/evt_unknown/{action}"), body.clone()).await;
        assert_eq!(unknown.problem(404, "stripe_event_not_found"), "Stripe event not found");
        api.write("POST", &format!("{EVENTS}/evt-1/{action}"), body)
            .await
            .problem(404, "not_found");
    }
    assert_eq!((detail(&api, &event).await, world.queued().await), (before, 0));
    assert_eq!(
        world.stripe.requests().iter().filter(|(_, path)| path.contains("/events")).count(),
        0
    );
}

#[tokio::test]
async fn a_backfill_queues_what_never_came_and_nothing_else_and_twice_is_once() {
    let world = World::new().await;
    let api = world.api().await;
    let (_, came) = world.paid_checkout("Came", "jane@came.example");
    // Around the queue, which would drop its id for five minutes, whoever sends it.
    assert!(world.apply(&came).await);
    let (_, missing) = world.paid_checkout("Missing", "joe@missing.example");
    let (from, to) = (hours_ago(1), hours_ago(-1));
    // Of a type that the endpoint is not registered for.
    world
        .stripe
        .emit("charge.succeeded", &text(&missing["data"]["object"]["customer"]))
        .expect("an event");
    let listed = tests::new_events(&world.stripe, &mut 0).len();
    assert_eq!(listed, world.stripe.events().len() - 1);

    let done = backfill(&api, from, to, &Value::Null).await.expect(200);
    assert_eq!(
        done,
        json!({"received": listed, "enqueued": listed - 1, "already_known": 1, "next_cursor": null,
            "done": true})
    );
    // Once more before they are applied: the queue drops them by their own ids.
    assert_eq!(backfill(&api, from, to, &Value::Null).await.expect(200), done);
    assert_eq!(world.queued().await as usize, listed - 1);
    assert_eq!(world.drain().await, 0);
    assert_eq!(world.recorded(&missing).await.0, "applied");
    assert_eq!(world.count("stripe_events").await, i64::try_from(listed).expect("a few"));
    assert_eq!(world.count("stripe_events WHERE status NOT IN ('applied', 'ignored')").await, 0);
    assert_eq!(
        (
            world.count("subscriptions WHERE created_by = 'stripe'").await,
            world.count("outbox_steps").await
        ),
        (2, 6)
    );
    // And once more after: all of it is known.
    let again = backfill(&api, from, to, &Value::Null).await.expect(200);
    assert_eq!(
        again,
        json!({"received": listed, "enqueued": 0, "already_known": listed, "next_cursor": null,
        "done": true})
    );
    assert_eq!(world.queued().await, 0);

    let rows = audited(&api, "STRIPE_BACKFILL").await;
    assert_eq!(rows.len(), 2, "one a call that queued something");
    assert_eq!(
        (&rows[1]["tenant_id"], &rows[1]["actor_type"], &rows[1]["ip_address"]),
        (&Value::Null, &json!("admin"), &json!(SOURCE_IP))
    );
    let details = json!({"from": from, "to": to, "cursor": null, "received": listed,
        "enqueued": listed - 1, "already_known": 1, "done": true});
    assert_eq!(rows[1]["details"], details);
    // A range in which nothing happened.
    let nothing = backfill(&api, hours_ago(9), hours_ago(8), &Value::Null).await.expect(200);
    assert_eq!(
        nothing,
        json!({"received": 0, "enqueued": 0, "already_known": 0, "next_cursor": null, "done": true})
    );
}

/// A customer with so many events that they fill several pages of a hundred.
fn many(world: &World, count: usize) -> Timestamp {
    let (session, _) = world.paid_checkout("Acme", "jane@acme.example");
    let customer = text(&world.stripe.object(&session).expect("the session")["customer"]);
    let began = hours_ago(1);
    while world.stripe.events().iter().filter(|event| event["type"] == "customer.updated").count()
        < count
    {
        world.stripe.emit("customer.updated", &customer).expect("an event");
    }
    began
}

/// What the hourly run does as well: as `pulse_system`, page by page.
#[tokio::test]
async fn a_backfill_goes_on_from_its_cursor_page_by_page_in_the_order_of_each() {
    let world = World::new().await;
    let from = many(&world, 230);
    let applier = &world.events.applier;
    let backfiller = Backfiller {
        db: &applier.db,
        queue: &world.webhook.queue,
        stripe: &applier.stripe,
        reads_per_second: 2,
    };
    let (mut cursor, mut received, began) = (None, Vec::new(), Instant::now());
    loop {
        // A budget of nothing is for one page.
        let page =
            backfiller.run((from, hours_ago(-1)), cursor, Duration::ZERO).await.expect("a page");
        assert_eq!(
            (page.enqueued, page.already_known, page.done),
            (page.received, 0, page.next_cursor.is_none())
        );
        received.push(page.received);
        cursor = page.next_cursor;
        if page.done {
            break;
        }
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "three reads at two a second");
    let listed = received.iter().sum::<usize>();
    assert_eq!((received.len(), received[0], received[1]), (3, 100, 100), "{received:?}");
    assert_eq!(
        world.queued().await as usize,
        listed,
        "each page begins where the one before ended"
    );
    assert_eq!(world.drain().await, 0);
    let recorded =
        world.rows("SELECT event_id FROM stripe_events ORDER BY recorded_at LIMIT 100").await;
    let ours: Vec<Value> = world
        .stripe
        .events()
        .into_iter()
        .filter(|event| event["type"] == "customer.updated")
        .map(|event| event["id"].clone())
        .collect();
    let first: Vec<Value> = recorded.into_iter().map(|row| row["event_id"].clone()).collect();
    assert_eq!(
        first,
        ours[ours.len() - 100..],
        "the latest hundred, in the order in which they happened"
    );
    assert_eq!(world.count("stripe_events").await, i64::try_from(listed).expect("a few"));
    // In one call it is the same.
    let whole =
        backfiller.run((from, hours_ago(-1)), None, Duration::from_secs(20)).await.expect("all");
    assert_eq!((whole.received, whole.already_known, whole.done), (listed, listed, true));
}

#[tokio::test]
async fn a_backfill_without_stripe_is_502_one_cut_short_says_where_and_a_repetition_completes_it() {
    let world = World::new().await;
    let from = many(&world, 130);
    let (proxy, to) = (
        Proxy::start(world.settings["STRIPE_API_BASE"].trim_start_matches("http://").to_owned()),
        hours_ago(-1),
    );
    let env = world.env(&[("STRIPE_API_BASE", &format!("http://127.0.0.1:{}", proxy.port()))]);
    let api = world.api_with(&env).await;
    for status in [500, 429, 401] {
        world.stripe.fail_next(if status == 401 { 1 } else { 3 }, status);
        let refused = backfill(&api, from, to, &Value::Null).await;
        assert_eq!(
            refused.problem(502, "upstream"),
            "Stripe failed or did not answer. Try again later.",
            "{status}"
        );
    }
    assert_eq!((world.queued().await, proxy.sent() > 0), (0, true));
    // The second page's request is longer by its cursor: it is cut, however often it is tried.
    let unused = proxy.sent();
    backfill(&api, hours_ago(9), hours_ago(8), &Value::Null).await.expect(200);
    let one = proxy.sent() - unused;
    let api = world.api_with(&env).await;
    proxy.cut_after(one + 10);
    let part = backfill(&api, from, to, &Value::Null).await.expect(200);
    assert_eq!(
        (&part["received"], &part["enqueued"], &part["done"]),
        (&json!(100), &json!(100), &json!(false))
    );
    proxy.pass();
    let rest = backfill(&api, from, to, &part["next_cursor"]).await.expect(200);
    assert_eq!((&rest["done"], &rest["already_known"]), (&json!(true), &json!(0)));
    assert_eq!(
        world.queued().await,
        u32::try_from(100 + rest["received"].as_u64().expect("a count")).expect("a few")
    );
    assert_eq!(audited(&api, "STRIPE_BACKFILL").await.len(), 2);
    assert_eq!(world.drain().await, 0);
    assert_eq!(
        backfill(&api, from, to, &Value::Null).await.expect(200)["enqueued"],
        0,
        "nothing is missing"
    );
}

#[tokio::test]
async fn a_range_that_cannot_be_names_its_field() {
    let world = World::new().await;
    let api = world.api().await;
    let hour = SignedDuration::from_hours(1);
    let old = "from must be at most 30 days ago: Stripe does not list older events";
    let month = hours_ago(30 * 24);
    assert_eq!(backfill(&api, month - hour, hours_ago(0), &Value::Null).await.faults(), [old]);
    assert_eq!(
        backfill(&api, hours_ago(1), hours_ago(2), &Value::Null).await.faults(),
        ["to must be after from"]
    );
    assert_eq!(
        backfill(&api, month - hour, month - hour, &Value::Null).await.faults(),
        [old, "to must be after from"]
    );
    backfill(&api, month + hour, hours_ago(0), &Value::Null).await.expect(200);
    let unknown = backfill(&api, hours_ago(2), hours_ago(0), &json!("evt_unknown")).await;
    assert_eq!(unknown.faults(), ["cursor names no event that Stripe lists"]);
    assert_eq!(
        backfill(&api, hours_ago(2), hours_ago(0), &json!("cs_1")).await.faults(),
        ["cursor must match ^evt_[A-Za-z0-9_]{1,251}$"]
    );
    let empty =
        api.write("POST", &format!("{EVENTS}/backfill"), json!({"since": 1})).await.faults();
    assert_eq!(
        empty,
        ["since is not a field of this request", "from is required", "to is required"]
    );
    // What began within the thirty days goes on to its end.
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    backfill(&api, month - hour, hours_ago(-1), &event["id"]).await.expect(200);
}
