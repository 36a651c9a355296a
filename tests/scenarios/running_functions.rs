//! Through the running functions of the stack: the real Lambda runtime interface, the real queue,
//! the real Keycloak, one address.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use shared::domain::events::signature;
use shared::process::config::Env;
use tests::{connect, stack, text};

struct Company {
    name: String,
    email: String,
    session: String,
}

/// Checks a company out at the stack's Stripe, by the marketing site's call; it is not paid yet.
async fn checkout(http: &reqwest::Client, name: &str, email: &str) -> Company {
    let form = [
        ("mode", "subscription"),
        ("line_items[0][price]", "price_pro_month"),
        ("line_items[0][quantity]", "1"),
        ("success_url", "https://example.com/done"),
        ("metadata[plan_id]", "pro"),
        ("metadata[company_name]", name),
        ("metadata[admin_email]", email),
    ];
    let call = http
        .post(format!("{}v1/checkout/sessions", base()))
        .bearer_auth(stack("STRIPE_SECRET_KEY"))
        .form(&form);
    let session: Value = call.send().await.expect("Stripe").json().await.expect("a session");
    Company { name: name.to_owned(), email: email.to_owned(), session: text(&session["id"]) }
}

fn base() -> String {
    format!("{}/", stack("STRIPE_API_BASE").trim_end_matches('/'))
}

async fn pay(http: &reqwest::Client, company: &Company) {
    let form = [("outcome", "paid"), ("email", company.email.as_str()), ("name", "Jane Doe")];
    let answer = http
        .post(format!("{}pay/{}", base(), company.session))
        .form(&form)
        .send()
        .await
        .expect("Stripe");
    assert!(
        answer.status().is_redirection() || answer.status().is_success(),
        "{}",
        answer.status()
    );
}

async fn post(http: &reqwest::Client, event: &Value) -> u16 {
    let body = event.to_string();
    let now = now_seconds();
    let call = http.post(format!("{}/webhook/stripe", stack("API_URL"))).header(
        "stripe-signature",
        signature::sign(&stack("STRIPE_WEBHOOK_SECRET"), now, body.as_bytes()),
    );
    call.header("content-type", "application/json; charset=utf-8")
        .body(body)
        .send()
        .await
        .expect("an answer")
        .status()
        .as_u16()
}

fn now_seconds() -> i64 {
    shared::base::clock::Clock::system().now().as_second()
}

/// Waits until the query counts `expected`, for longer than the outbox's tick: a lost wake is no
/// failure.
async fn wait_for(db: &tokio_postgres::Client, from: &str, expected: i64) {
    let began = Instant::now();
    loop {
        let count: i64 = db
            .query_one(&format!("SELECT count(*) FROM {from}"), &[])
            .await
            .expect("a count")
            .get(0);
        if count == expected {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(100),
            "{count} instead of {expected}: {from}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn http() -> reqwest::Client {
    shared::process::tls::install();
    reqwest::Client::builder()
        .timeout(Duration::from_mins(1))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client")
}

/// The same event 20 times at once, next to Stripe's own delivery: one tenant, one subscription,
/// one login, one mail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_event_posted_20_times_at_once_makes_one_customer() {
    let (http, db) = (http(), connect(&stack("DATABASE_NAME")).await);
    let run = format!("Twenty Times {}", std::process::id());
    let company =
        checkout(&http, &run, &format!("twenty.{}@times.example", std::process::id())).await;
    pay(&http, &company).await;
    let event = json!({
        "id": format!("evt_twenty{}", std::process::id()), "object": "event",
        "type": "checkout.session.completed", "created": now_seconds(), "livemode": false,
        "api_version": "2026-09-30.endive",
        "data": {"object": {"id": company.session, "object": "checkout.session"}},
    });
    assert_eq!(join_all((0..20).map(|_| post(&http, &event))).await, [200; 20]);
    wait_for(
        &db,
        &format!("stripe_events WHERE event_id = '{}' AND status = 'applied'", text(&event["id"])),
        1,
    )
    .await;
    wait_for(
        &db,
        &format!("stripe_events WHERE object_id = '{}' AND status = 'applied'", company.session),
        2,
    )
    .await;
    wait_for(&db, &format!("tenants WHERE name = '{}'", company.name), 1).await;
    wait_for(
        &db,
        &format!("subscriptions WHERE stripe_checkout_session_id = '{}'", company.session),
        1,
    )
    .await;
    wait_for(
        &db,
        &format!(
            "outbox_steps JOIN tenants USING (tenant_id) WHERE name = '{}'
                            AND outbox_steps.status = 'done' AND attempts = 1",
            company.name
        ),
        2,
    )
    .await;
}

/// Two checkouts of equally named companies at once: two tenants of different ids, a user each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_equally_named_companies_at_once_get_two_tenants_and_a_user_each() {
    let (http, db) = (http(), connect(&stack("DATABASE_NAME")).await);
    let run = format!("Same Name {}", std::process::id());
    let emails = [0, 1].map(|n| format!("admin{n}.{}@same.example", std::process::id()));
    let companies =
        [checkout(&http, &run, &emails[0]).await, checkout(&http, &run, &emails[1]).await];
    tokio::join!(pay(&http, &companies[0]), pay(&http, &companies[1]));
    wait_for(&db, &format!("tenants WHERE name = '{run}'"), 2).await;
    let done = format!(
        "outbox_steps JOIN tenants USING (tenant_id) WHERE name = '{run}'
         AND outbox_steps.status = 'done'"
    );
    wait_for(&db, &done, 4).await;
    let users = db
        .query_one(&format!("SELECT count(DISTINCT result->>'user_id') FROM {done}"), &[])
        .await
        .expect("a count");
    assert_eq!(users.get::<_, i64>(0), 2);
}

#[tokio::test]
async fn what_is_not_stripes_is_400_through_the_gateways_address_too() {
    let (http, db) = (http(), connect(&stack("DATABASE_NAME")).await);
    let url = format!("{}/webhook/stripe", stack("API_URL"));
    let event = json!({"id": format!("evt_bad{}", std::process::id()), "type": "invoice.paid",
            "created": now_seconds(), "livemode": false, "data": {"object": {}}})
    .to_string();
    let stale =
        signature::sign(&stack("STRIPE_WEBHOOK_SECRET"), now_seconds() - 301, event.as_bytes());
    for (header, body) in [
        ("t=1,v1=00".to_owned(), event.clone()),
        (stale, event.clone()),
        (String::new(), "x".repeat(1_000_000)),
    ] {
        let answer = http
            .post(&url)
            .header("stripe-signature", header)
            .body(body)
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status().as_u16(), 400);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert!(answer.headers().contains_key("x-request-id"));
    }
    wait_for(&db, &format!("stripe_events WHERE event_id = 'evt_bad{}'", std::process::id()), 0)
        .await;
}

/// Each as one line of embedded metric format among the log's own, as CloudWatch takes them apart.
#[tokio::test]
async fn what_alarms_count_is_a_line_of_its_own_in_the_log() {
    let (http, db) = (http(), connect(&stack("DATABASE_NAME")).await);
    let refused = http
        .post(format!("{}/webhook/stripe", stack("API_URL")))
        .header("stripe-signature", "t=1,v1=00")
        .body("{}")
        .send()
        .await;
    assert_eq!(refused.expect("an answer").status().as_u16(), 400);
    let id = format!("evt_shapeless{}", std::process::id());
    let shapeless = json!({
        "id": id, "object": "event", "type": "customer.subscription.updated",
        "created": now_seconds(), "livemode": false, "data": {"object": {"object": "subscription"}},
    });
    assert_eq!(post(&http, &shapeless).await, 200);
    wait_for(&db, &format!("stripe_events WHERE event_id = '{id}' AND status = 'failed'"), 1).await;
    for (function, metric) in [("webhook", "SignatureFailures"), ("stripe-events", "EventsFailed")]
    {
        let began = Instant::now();
        loop {
            let all = log(function);
            if let Some(line) = all.iter().find(|line| line[metric].as_u64() > Some(0)) {
                assert_eq!(
                    (&line["_aws"]["CloudWatchMetrics"][0]["Namespace"], &line["Stage"]),
                    (&json!("PulseBilling"), &json!("local")),
                    "{line}"
                );
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "no {metric} of {function}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    db.execute("UPDATE stripe_events SET status = 'dismissed' WHERE event_id = $1", &[&id])
        .await
        .expect("tidied");
}

/// The stack's pollers ask as here. A poll that ends by a time-out takes what it had received with
/// it, until that is visible again.
#[tokio::test]
async fn a_long_poll_of_an_empty_queue_ends_by_its_answer() {
    let aws = shared::outside::aws::config_within(&Env::process(), Duration::from_secs(30))
        .expect("the stack's settings");
    let sqs = aws_sdk_sqs::Client::new(&aws);
    let queue = sqs
        .create_queue()
        .queue_name(format!("long-poll-{}", std::process::id()))
        .send()
        .await
        .expect("a queue");
    let poll =
        sqs.receive_message().set_queue_url(queue.queue_url).wait_time_seconds(10).send().await;
    assert_eq!(poll.expect("an answer").messages(), []);
}

/// What a function of the stack has written, whole lines only: one may be being written.
fn log(function: &str) -> Vec<Value> {
    let log = std::path::PathBuf::from(stack("MAIL_DIR"))
        .join("../../logs")
        .join(format!("{function}.log"));
    let text = std::fs::read_to_string(&log).expect("the function's log");
    let lines = text
        .rsplit_once('\n')
        .map_or("", |(lines, _)| lines)
        .lines()
        .filter(|line| !line.starts_with("xtask: "));
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The query that template.yaml saves, on the lines that the functions really write.
#[tokio::test]
async fn one_query_follows_an_event_from_the_webhook_to_the_mail() {
    let template = include_str!("../../template.yaml");
    let query = template.split("QueryString: |").nth(1).expect("a saved query");
    let query: Vec<&str> = query.lines().skip(1).map(str::trim).take(3).collect();
    let named = |line: &str, word: &str| {
        let line = line.trim_start_matches("| ").strip_prefix(word).expect("that command");
        let fields = line.split(',').map(|field| field.trim().trim_matches('`').to_owned());
        fields.collect::<Vec<_>>()
    };
    let fields = named(query[0], "fields");
    assert_eq!(query[1], "| filter `stripe.event_id` = \"evt_\"");

    let (http, db) = (http(), connect(&stack("DATABASE_NAME")).await);
    let run = std::process::id();
    let company =
        checkout(&http, &format!("Followed {run}"), &format!("followed.{run}@x.example")).await;
    pay(&http, &company).await;
    let steps =
        format!("outbox_steps WHERE dedup_key LIKE '%:{}' AND status = 'done'", company.session);
    wait_for(&db, &steps, 2).await;
    let sql = "SELECT event_id FROM stripe_events WHERE object_id = $1
               AND event_type = 'checkout.session.completed'";
    let event: String = db.query_one(sql, &[&company.session]).await.expect("its event").get(0);
    let tenant = format!("followed-{run}");

    let began = Instant::now();
    let lines = loop {
        let lines: Vec<Value> = ["webhook", "stripe-events", "provisioning"]
            .into_iter()
            .flat_map(log)
            .filter(|line| line["stripe.event_id"] == event.as_str())
            .collect();
        if lines.len() >= 4 {
            break lines;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{lines:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let stations: Vec<_> = lines
        .iter()
        .map(|line| {
            let shown = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            assert!(!shown("request.id").is_empty(), "{line}");
            ["message", "status", "step.kind", "tenant.id"].map(shown)
        })
        .collect();
    assert_eq!(
        stations,
        [
            ["queued", "", "", ""],
            ["Stripe event recorded", "applied", "", &tenant],
            ["outbox step done", "", "keycloak_user", &tenant],
            ["outbox step done", "", "welcome_mail", &tenant],
        ]
    );
    // Every field of the query is one that some line has, but for those of failures.
    for field in
        fields.iter().filter(|field| !["@timestamp", "code", "error"].contains(&field.as_str()))
    {
        assert!(lines.iter().any(|line| !line[field.as_str()].is_null()), "{field}");
    }
}
