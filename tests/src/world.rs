//! One test's own system.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use lambda_http::{Body, Response};
use provisioning::Provisioning;
use renewal::Renewals;
use serde_json::Value;
use shared::domain::events::signature;
use shared::outside::queue::Queue;
use shared::process::config::Env;
use simulators::keycloak::Fake;
use simulators::stripe::{CheckoutParams, Simulator};
use stripe_events::StripeEvents;
use tokio_postgres::Client;
use webhook::Webhook;

use crate::clock::TestClock;
use crate::environment::{
    SURROUNDINGS, aws, connect, copy_of, database, database_on, keycloak, queue, stack, stripe,
};
use crate::proxy::Proxy;
use crate::smtp::{Smtp, Tls};
use crate::{payer, request, text};

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
    /// The clock of all its functions.
    pub clock: TestClock,
    /// What the functions were started with.
    pub settings: HashMap<String, String>,
    pub(crate) sqs: aws_sdk_sqs::Client,
}

impl World {
    /// A system with the development seed's plans, on a fresh database and fresh queues.
    ///
    /// # Panics
    /// Where a part of it cannot be made.
    pub async fn new() -> Self {
        Self::on(database().await).await
    }

    /// The same on a database of another locale, such as `LOCALE_PROVIDER libc LOCALE 'C'`.
    pub async fn on_locale(locale: &str) -> Self {
        Self::on(database_on(locale).await).await
    }

    async fn on(name: String) -> Self {
        shared::process::tls::install();
        let (stripe, keycloak) = (stripe().await, keycloak(None).await);
        let sqs = aws_sdk_sqs::Client::new(&aws());
        let fifo = [
            (QueueAttributeName::FifoQueue, "true"),
            (QueueAttributeName::VisibilityTimeout, "30"),
        ];
        let events = queue(&sqs, &format!("{name}.fifo"), &fifo).await;
        let dead = [(QueueAttributeName::FifoQueue, "true")];
        let dead = queue(&sqs, &format!("{name}-dlq.fifo"), &dead).await;
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
            ("STRIPE_DLQ_URL", dead),
            ("PROVISIONING_QUEUE_URL", wake),
            ("RENEWAL_QUEUE_URL", runs),
            ("STAGE", "test".to_owned()),
            ("KEYCLOAK_URL", keycloak.base_url()),
            ("JWT_ISSUER", keycloak.issuer()),
            ("JWT_AUDIENCE", stack("JWT_AUDIENCE")),
            ("ALLOWED_ORIGINS", "https://app.pulse.example,http://localhost:3000".to_owned()),
            ("KEYCLOAK_REALM", stack("KEYCLOAK_REALM")),
            ("KEYCLOAK_CLIENT_ID", stack("KEYCLOAK_CLIENT_ID")),
            ("KEYCLOAK_ORGANIZATIONS", "true".to_owned()),
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
        let clock = TestClock::real();
        Self {
            db: connect(&settings["DATABASE_NAME"]).await,
            webhook: Webhook::start(&env, clock.reader()).await.expect("webhook"),
            events: StripeEvents::start(&env, clock.reader()).await.expect("stripe-events"),
            provisioning: Provisioning::start(&env, clock.reader()).await.expect("provisioning"),
            renewals: Renewals::start(&env, clock.reader()).await.expect("renewal"),
            clock,
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

    /// Starts the functions that have a database again, with no connection made yet.
    ///
    /// # Panics
    /// Where one does not start.
    pub async fn restart(&mut self) {
        let (env, clock) = (self.env(&[]), &self.clock);
        self.events = StripeEvents::start(&env, clock.reader()).await.expect("stripe-events");
        self.provisioning = Provisioning::start(&env, clock.reader()).await.expect("provisioning");
        self.renewals = Renewals::start(&env, clock.reader()).await.expect("renewal");
    }

    /// A copy of its database as it is at this moment, on which no `Api` works.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub async fn backup(&mut self) -> String {
        let database = self.settings["DATABASE_NAME"].clone();
        self.db = connect("postgres").await;
        self.restart().await;
        let copy = copy_of(&database).await;
        self.db = connect(&database).await;
        copy
    }

    /// Starts the functions on another database, and on a fresh queue of events: the queue forgets
    /// which ids it has seen after five minutes, and a restore takes longer.
    ///
    /// # Panics
    /// Where one does not start.
    pub async fn restore(&mut self, database: String) {
        let fifo = [(QueueAttributeName::FifoQueue, "true")];
        let events = queue(&self.sqs, &format!("{database}.fifo"), &fifo).await;
        self.db = connect(&database).await;
        self.settings.insert("DATABASE_NAME".to_owned(), database);
        self.settings.insert("STRIPE_QUEUE_URL".to_owned(), events);
        self.webhook = Webhook::start(&self.env(&[]), self.clock.reader()).await.expect("webhook");
        self.restart().await;
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
            self.clock.now().as_second(),
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

    /// Until no session of a function is at work, or in a transaction: what was sent last, and
    /// nobody waited for, is done too.
    pub async fn sessions_rest(&self) {
        let sessions = "pg_stat_activity WHERE datname = current_database()
                        AND pid <> pg_backend_pid() AND state <> 'idle'";
        for _ in 0..2 {
            while self.count(sessions).await > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
    }

    /// Until a request stands before a lock of the database.
    pub async fn a_lock_is_waited_for(&self) {
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
    pub async fn no_other_connection_is_open(&self) {
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
