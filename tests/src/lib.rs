//! The harness of the integration tests: a `World` is one test's own database, queues, Stripe and
//! Keycloak, and the functions on them.
//!
//! `PostgreSQL`, the queue and Secrets Manager are the real ones of the stack that `cargo xtask
//! test` starts; fakes stand at the socket, never in place of a type of ours. Nothing here knows a
//! rule of the product.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use aws_sdk_sqs::types::QueueAttributeName;
use jiff::{SignedDuration, Timestamp};
use lambda_http::{Body, Request, Response};
use provisioning::Provisioning;
use renewal::Renewals;
use serde_json::Value;
use shared::base::clock::Clock;
use shared::domain::events::kind::endpoint_types;
use shared::domain::events::signature;
use shared::outside::aws::SdkConfig;
use shared::outside::queue::Queue;
use shared::process::config::Env;
use simulators::keycloak::Fake;
use simulators::stripe::{CheckoutParams, Interval, Payer, Price, Simulator};
use stripe_events::StripeEvents;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};
use webhook::Webhook;

use crate::proxy::Proxy;
use crate::smtp::{Smtp, Tls};

pub mod api;
pub mod company;
pub mod proxy;
pub mod queue;
pub mod shop;
pub mod smtp;

/// A setting of the running stack.
///
/// # Panics
/// Where no stack's settings are in the environment.
#[must_use]
pub fn stack(name: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the stack's settings come by the environment")]
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: run the tests by `cargo xtask test`, or export .dev/stack.env of a \
         running stack"
        )
    })
}

/// What Lambda sets itself, and where a local stack has what is AWS's elsewhere.
pub const SURROUNDINGS: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
];

/// AWS's clients, as the stack's functions have them.
///
/// # Panics
/// Where no stack's settings are in the environment.
#[must_use]
pub fn aws() -> SdkConfig {
    shared::outside::aws::config(&Env::process()).expect(
        "the stack's settings: run the tests by `cargo xtask test`, or export .dev/stack.env of a \
         running stack",
    )
}

/// Connects as the owner to one of the stack's databases.
///
/// # Panics
/// Where that fails.
pub async fn connect(database: &str) -> Client {
    let mut config: tokio_postgres::Config = stack("DATABASE_URL").parse().expect("DATABASE_URL");
    let (client, connection) =
        config.dbname(database).connect(NoTls).await.expect("a connection as owner");
    tokio::spawn(connection);
    client
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A name that no other test of this run, nor of the run before on the same stack, has.
fn unique() -> String {
    format!("t{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// A migrated and seeded database that tests are copied from.
async fn template() -> &'static str {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    TEMPLATE
        .get_or_init(|| async {
            let name = format!("template_{}", unique());
            connect("postgres")
                .await
                .batch_execute(&format!("CREATE DATABASE {name}"))
                .await
                .expect("a template database");
            let mut client = connect(&name).await;
            migrate::migrations::run(&mut client).await.expect("migrations");
            client
                .batch_execute(include_str!("../../xtask/stack/dev-seed.sql"))
                .await
                .expect("seed");
            // The copy needs a template without connections.
            drop(client);
            tokio::time::sleep(Duration::from_millis(100)).await;
            name
        })
        .await
}

/// A fresh database with the schema and the development seed.
///
/// # Panics
/// Where it cannot be made.
pub async fn database() -> String {
    let name = unique();
    let sql = format!("CREATE DATABASE {name} TEMPLATE {}", template().await);
    let owner = connect("postgres").await;
    for attempt in 0.. {
        match owner.batch_execute(&sql).await {
            Ok(()) => break,
            // Another copy, or the template's own last connection, is not gone yet.
            Err(error)
                if attempt < 50
                    && error.code() == Some(&tokio_postgres::error::SqlState::OBJECT_IN_USE) =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("no test database: {error:?}"),
        }
    }
    name
}

/// One test's own system.
pub struct World {
    /// As the owner, for looking.
    pub db: Client,
    /// Stripe.
    pub stripe: Simulator,
    /// The embedded Keycloak.
    pub keycloak: Fake,
    /// The functions.
    pub webhook: Webhook,
    /// The functions.
    pub events: StripeEvents,
    /// The functions.
    pub provisioning: Provisioning,
    /// The functions.
    pub renewals: Renewals,
    /// What the functions were started with.
    pub settings: HashMap<String, String>,
    sqs: aws_sdk_sqs::Client,
}

impl World {
    /// A system with the development seed's plans, on a fresh database and fresh queues.
    ///
    /// # Panics
    /// Where a part of it cannot be made.
    pub async fn new() -> Self {
        shared::process::tls::install();
        let name = database().await;
        let (stripe, keycloak) = (stripe().await, keycloak(None).await);
        let sqs = aws_sdk_sqs::Client::new(&aws());
        let fifo = [
            (QueueAttributeName::FifoQueue, "true"),
            (QueueAttributeName::VisibilityTimeout, "30"),
        ];
        let events = queue(&sqs, &format!("{name}.fifo"), &fifo).await;
        let wake = queue(&sqs, &name, &[]).await;
        let runs = queue(&sqs, &format!("{name}-runs"), &[]).await;
        let settings = [
            ("DATABASE_HOST", stack("DATABASE_HOST")),
            ("DATABASE_PORT", stack("DATABASE_PORT")),
            ("DATABASE_NAME", name),
            ("DATABASE_SSLMODE", "disable".to_owned()),
            ("DATABASE_POOL_SIZE", "8".to_owned()),
            ("DATABASE_OWNER", "pulse_owner".to_owned()),
            ("SECRETS_PREFIX", stack("SECRETS_PREFIX")),
            ("STRIPE_API_BASE", stripe.base_url().trim_end_matches('/').to_owned()),
            ("STRIPE_PUBLISHABLE_KEY", "pk_test_tests".to_owned()),
            ("STRIPE_READS_PER_SECOND", "0".to_owned()),
            ("STRIPE_QUEUE_URL", events),
            ("PROVISIONING_QUEUE_URL", wake),
            ("RENEWAL_QUEUE_URL", runs),
            ("STAGE", "test".to_owned()),
            ("KEYCLOAK_URL", keycloak.base_url()),
            ("JWT_ISSUER", keycloak.issuer()),
            ("JWT_AUDIENCE", stack("JWT_AUDIENCE")),
            ("ALLOWED_ORIGINS", "https://app.pulse.example,http://localhost:3000".to_owned()),
            ("KEYCLOAK_REALM", stack("KEYCLOAK_REALM")),
            ("KEYCLOAK_CLIENT_ID", stack("KEYCLOAK_CLIENT_ID")),
            ("SMTP_HOST", stack("SMTP_HOST")),
            ("SMTP_PORT", stack("SMTP_PORT")),
            ("SMTP_FROM", "Pulse Billing <billing@pulse.example>".to_owned()),
            ("SMTP_TLS", stack("SMTP_TLS")),
            ("OPERATOR_DIGEST_TO", stack("OPERATOR_DIGEST_TO")),
        ]
        .into_iter()
        .chain(SURROUNDINGS.map(|name| (name, stack(name))))
        .map(|(key, value)| (key.to_owned(), value));
        let settings = settings.collect::<HashMap<_, _>>();
        let env = Env::of(settings.clone());
        Self {
            db: connect(&settings["DATABASE_NAME"]).await,
            webhook: Webhook::start(&env, Clock::system()).await.expect("webhook"),
            events: StripeEvents::start(&env, Clock::system()).await.expect("stripe-events"),
            provisioning: Provisioning::start(&env, Clock::system()).await.expect("provisioning"),
            renewals: Renewals::start(&env, Clock::system()).await.expect("renewal"),
            stripe,
            keycloak,
            settings,
            sqs,
        }
    }

    /// `settings`, with some replaced.
    #[must_use]
    pub fn env(&self, replaced: &[(&str, &str)]) -> Env {
        let mut settings = self.settings.clone();
        settings
            .extend(replaced.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        Env::of(settings)
    }

    /// Starts the functions that have a database anew, with no connection made yet; their clocks
    /// stay.
    ///
    /// # Panics
    /// Where one does not start.
    pub async fn restart(&mut self) {
        let env = self.env(&[]);
        self.events = StripeEvents::start(&env, self.events.applier.clock.clone())
            .await
            .expect("stripe-events");
        self.provisioning =
            Provisioning::start(&env, self.provisioning.outbox.applier.clock.clone())
                .await
                .expect("provisioning");
        self.renewals = Renewals::start(&env, self.renewals.renewal.applier.clock.clone())
            .await
            .expect("renewal");
    }

    /// Gives this world a mail server of its own.
    ///
    /// # Panics
    /// Where a function does not start.
    pub async fn mail(&mut self) -> Smtp {
        let smtp = Smtp::start(Tls::No).await;
        self.settings.insert("SMTP_PORT".to_owned(), smtp.port.to_string());
        self.restart().await;
        smtp
    }

    /// Lets a test move the outbox's clock: it is as many seconds ahead as the answer holds.
    pub fn move_outbox_clock(&mut self) -> Arc<AtomicI64> {
        let ahead = Arc::new(AtomicI64::new(0));
        let (real, moved) = (self.provisioning.outbox.applier.clock.clone(), Arc::clone(&ahead));
        self.provisioning.outbox.applier.clock = Clock::from_fn(move || {
            real.now() + SignedDuration::from_secs(moved.load(Ordering::SeqCst))
        });
        ahead
    }

    /// Puts a proxy between this world's functions and what the setting names: `DATABASE_PORT`,
    /// `STRIPE_API_BASE` or `KEYCLOAK_URL`.
    ///
    /// # Panics
    /// Where a function does not start.
    pub async fn behind(&mut self, setting: &str) -> Proxy {
        let direct = self.settings[setting].clone();
        let (base, port) = direct.split_at(direct.rfind(':').map_or(0, |colon| colon + 1));
        let proxy = Proxy::start(format!("127.0.0.1:{port}"));
        self.settings.insert(setting.to_owned(), format!("{base}{}", proxy.port()));
        self.restart().await;
        proxy
    }

    /// Puts a proxy between this world's functions and the queues; the test's own calls go around
    /// it.
    pub fn queues_behind(&mut self) -> Proxy {
        let proxy =
            Proxy::start(stack("AWS_ENDPOINT_URL_SQS").trim_start_matches("http://").to_owned());
        let aws = aws_sdk_sqs::config::Builder::from(&aws())
            .endpoint_url(format!("http://127.0.0.1:{}", proxy.port()))
            .build();
        let queue = |name: &str| {
            Queue::with(aws_sdk_sqs::Client::from_conf(aws.clone()), self.settings[name].clone())
        };
        (self.webhook.queue, self.events.queue) =
            (queue("STRIPE_QUEUE_URL"), queue("STRIPE_QUEUE_URL"));
        self.events.outbox_wake = queue("PROVISIONING_QUEUE_URL");
        proxy
    }

    /// Opens a checkout of a plan by the month, with this metadata on the session.
    ///
    /// # Panics
    /// Where Stripe would refuse it.
    #[must_use]
    pub fn checkout(&self, price: &str, metadata: &[(&str, &str)]) -> String {
        let metadata =
            metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.stripe
            .create_checkout(CheckoutParams { metadata, ..CheckoutParams::subscription(price) })
            .expect("a checkout")
    }

    /// A company that the marketing site sends, checked out and paid by card: the session, and its
    /// `checkout.session.completed`.
    ///
    /// # Panics
    /// Where Stripe would refuse it.
    #[must_use]
    pub fn paid_checkout(&self, company: &str, email: &str) -> (String, Value) {
        let session = self.checkout(
            "price_pro_month",
            &[
                ("plan_id", "pro"),
                ("company_name", company),
                ("admin_email", email),
                ("admin_first_name", "Jane"),
            ],
        );
        self.stripe.pay(&session, payer(email)).expect("paid");
        let event = self.event("checkout.session.completed");
        (session, event)
    }

    /// The latest event of a type.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn event(&self, event_type: &str) -> Value {
        self.stripe
            .events()
            .into_iter()
            .rev()
            .find(|event| event["type"] == event_type)
            .unwrap_or_else(|| panic!("no event {event_type}"))
    }

    /// Posts an event to the webhook as Stripe does.
    pub async fn post(&self, event: &Value) -> Response<Body> {
        let body = event.to_string();
        let signature = signature::sign(
            &stack("STRIPE_WEBHOOK_SECRET"),
            self.webhook.clock.now().as_second(),
            body.as_bytes(),
        );
        self.webhook.handle(request(Body::Text(body), &signature)).await
    }

    /// Runs the outbox once and returns its summary.
    ///
    /// # Panics
    /// Where the run itself fails.
    pub async fn outbox(&self) -> Value {
        serde_json::to_value(self.provisioning.handle().await.expect("an outbox run"))
            .expect("JSON")
    }

    /// The rows of a query, as objects.
    ///
    /// # Panics
    /// Where the query fails.
    pub async fn rows(&self, sql: &str) -> Vec<Value> {
        let rows = self
            .db
            .query(&format!("SELECT to_jsonb(q) FROM ({sql}) q"), &[])
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The only row of a query.
    ///
    /// # Panics
    /// Where there is another number of them.
    pub async fn row(&self, sql: &str) -> Value {
        let rows = self.rows(sql).await;
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows.into_iter().next().expect("one row")
    }

    /// The number that a query counts.
    ///
    /// # Panics
    /// Where the query fails.
    pub async fn count(&self, from: &str) -> i64 {
        self.db
            .query_one(&format!("SELECT count(*) FROM {from}"), &[])
            .await
            .unwrap_or_else(|error| panic!("{from}: {error:?}"))
            .get(0)
    }

    /// Until a request stands before a lock of the database.
    pub async fn somebody_waits(&self) {
        // Of another role's session its locks are seen, and not what it waits for.
        while self
            .count(
                "pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted
                          AND datname = current_database()",
            )
            .await
            == 0
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Until PostgreSQL has noticed that processes which were killed are gone: it first ends the
    /// statement at hand, and holds its locks so long.
    pub async fn nobody_else_is_connected(&self) {
        while self
            .count(
                "pg_stat_activity WHERE datname = current_database()
                          AND pid <> pg_backend_pid() AND usename = 'pulse_system'",
            )
            .await
            > 0
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Status and reason of a recorded event.
    pub async fn recorded(&self, event: &Value) -> (String, String) {
        let row = self
            .row(&format!(
                "SELECT status, coalesce(status_reason, '') AS reason
                                     FROM stripe_events WHERE event_id = '{}'",
                text(&event["id"])
            ))
            .await;
        (text(&row["status"]), text(&row["reason"]))
    }
}

/// Applies an event by this instance of the function, as a message that the queue hands out for the
/// `receives`th time, and tells whether it may leave the queue.
pub async fn apply_by(events: &StripeEvents, event: &Value, receives: u32) -> bool {
    let mut batch = SqsEvent::default();
    let mut message = sqs_message(&event.to_string(), "group");
    message.attributes.insert("ApproximateReceiveCount".to_owned(), receives.to_string());
    batch.records.push(message);
    events.handle(batch).await.batch_item_failures.is_empty()
}

/// A clock that stands where a test puts it: so many seconds after 1970.
#[must_use]
pub fn clock_at(seconds: &Arc<AtomicI64>) -> Clock {
    let seconds = Arc::clone(seconds);
    Clock::from_fn(move || {
        Timestamp::from_second(seconds.load(Ordering::SeqCst)).unwrap_or(Timestamp::MIN)
    })
}

/// What the endpoint is told of since the last time, oldest first. `seen` counts what has happened
/// at Stripe.
#[must_use]
pub fn news(stripe: &Simulator, seen: &mut usize) -> Vec<Value> {
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

/// Somebody who pays.
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

/// A Stripe with the seed's prices, and one that nothing here knows.
///
/// # Panics
/// Where it does not start.
pub async fn stripe() -> Simulator {
    let options = simulators::stripe::Options {
        listen: ([127, 0, 0, 1], 0).into(),
        secret_key: stack("STRIPE_SECRET_KEY"),
        webhook_secret: stack("STRIPE_WEBHOOK_SECRET"),
        webhook_url: None,
    };
    let stripe = Simulator::start(options).await.expect("Stripe");
    for id in [
        "price_starter_month",
        "price_pro_month",
        "price_pro_year",
        "price_enterprise_month",
        "price_standard_slot_month",
        "price_unmapped",
    ] {
        let interval = if id.ends_with("year") { Interval::Year } else { Interval::Month };
        stripe.add_price(Price {
            id: id.to_owned(),
            product: format!("prod_{id}"),
            unit_amount: 29_900,
            interval,
            nickname: id.to_owned(),
        });
    }
    stripe
}

/// An embedded Keycloak; without a mail server it only counts its mails.
///
/// # Panics
/// Where it does not start.
pub async fn keycloak(smtp: Option<std::net::SocketAddr>) -> Fake {
    let options = simulators::keycloak::Options {
        listen: ([127, 0, 0, 1], 0).into(),
        realm: stack("KEYCLOAK_REALM"),
        client_id: stack("KEYCLOAK_CLIENT_ID"),
        client_secret: stack("KEYCLOAK_CLIENT_SECRET"),
        smtp,
    };
    Fake::start(options).await.expect("Keycloak")
}

async fn queue(
    sqs: &aws_sdk_sqs::Client,
    name: &str,
    attributes: &[(QueueAttributeName, &str)],
) -> String {
    let mut create = sqs.create_queue().queue_name(name);
    for (attribute, value) in attributes {
        create = create.attributes(attribute.clone(), *value);
    }
    create.send().await.expect("a queue").queue_url().expect("its URL").to_owned()
}

/// Holds what the code says now against a file that people review. `cargo xtask openapi` writes the
/// file anew.
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

/// Where a file of the repository is.
#[must_use]
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
