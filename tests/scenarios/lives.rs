//! A model test: customers lead random lives at Stripe. What one database makes of their events in
//! order, as they happen, another must make of the same events shuffled, doubled and late, while
//! its connections break and Stripe fails; and both must say what Stripe says.
//!
//! A seed is a life. `cargo xtask lives 10000` leads more of them; `cargo xtask lives --seed 17`
//! leads one again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use aws_lambda_events::sqs::SqsEvent;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use provisioning::Provisioning;
use serde_json::{Value, json};
use shared::base::clock::Clock;
use shared::base::ids::{AddonOrderId, StripeCustomerId, SubscriptionId, TenantId};
use shared::db::Db;
use shared::domain::events::Applier;
use shared::outside::queue::Queue;
use shared::outside::secrets::{Role, Secrets};
use shared::outside::stripe::{NewPayment, Stripe};
use shared::process::config::{DatabaseSettings, Env};
use simulators::keycloak::Fake;
use simulators::stripe::{Card, CheckoutParams, Dunning, GivenUp, Simulator};
use stripe_events::StripeEvents;
use tests::proxy::Proxy;
use tests::{connect, database, payer, stack, text};
use tokio_postgres::Client;

/// Lives in the suite.
const LIVES: u64 = 500;
/// Lives that are led side by side.
const WORKERS: u64 = 8;

const PLANS: [(&str, &str, i32); 3] = [
    ("price_starter_month", "starter", 30),
    ("price_pro_month", "pro", 260),
    ("price_enterprise_month", "enterprise", 5000),
];

#[expect(clippy::disallowed_methods, reason = "how many, and which, is said at the command line")]
fn said(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Steele and Vigna's `SplitMix64`: the same luck for the same seed, everywhere.
struct Luck(u64);

impl Luck {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % n as u64).expect("less than n")
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

fn env(settings: &BTreeMap<&'static str, String>, more: &[(&'static str, String)]) -> Env {
    let settings = settings.clone().into_iter().chain(more.iter().cloned());
    let surroundings = tests::SURROUNDINGS.map(|name| (name, tests::stack(name)));
    Env::of(
        settings
            .into_iter()
            .chain(surroundings)
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

/// One database, and what applies events to it.
struct Side {
    owner: Client,
    settings: BTreeMap<&'static str, String>,
    /// Between it and its database, where that fails.
    proxy: Option<Proxy>,
    db: Arc<Db>,
    secrets: Arc<Secrets>,
    aws: shared::outside::aws::SdkConfig,
}

impl Side {
    async fn new(failing: bool) -> Self {
        let name = database().await;
        let owner = connect(&name).await;
        let proxy = failing.then(|| {
            Proxy::start(format!("{}:{}", stack("DATABASE_HOST"), stack("DATABASE_PORT")))
        });
        let host = if failing { "127.0.0.1".to_owned() } else { stack("DATABASE_HOST") };
        let port =
            proxy.as_ref().map_or_else(|| stack("DATABASE_PORT"), |proxy| proxy.port().to_string());
        let settings = BTreeMap::from([
            ("DATABASE_HOST", host),
            ("DATABASE_PORT", port),
            ("DATABASE_NAME", name),
            ("DATABASE_SSLMODE", "disable".to_owned()),
            ("SECRETS_PREFIX", stack("SECRETS_PREFIX")),
            ("STRIPE_QUEUE_URL", "http://127.0.0.1:9/none".to_owned()),
            ("PROVISIONING_QUEUE_URL", "http://127.0.0.1:9/none".to_owned()),
            ("STRIPE_READS_PER_SECOND", "0".to_owned()),
        ]);
        // A subscription has the same id on both sides, whatever came first there: slots that are
        // ordered for it name it. It is made of the checkout that this transaction has claimed.
        let same_id = "CREATE OR REPLACE FUNCTION generate_subscription_id(at timestamptz
                DEFAULT now()) RETURNS text LANGUAGE sql VOLATILE AS $$
                SELECT 'SUB-9999-' || ('x' || substr(md5(object_id), 1, 12))::bit(48)::bigint
                FROM stripe_events WHERE pg_current_xact_id()::xid IN (xmin, xmax) $$";
        owner.batch_execute(same_id).await.expect("a function");
        let env = env(&settings, &[]);
        let aws = tests::aws();
        let secrets = Secrets::read(&aws, &env, Role::System).await.expect("the secret");
        let db = Db::new(
            DatabaseSettings::from_env(&env).expect("settings"),
            "pulse_system",
            Arc::clone(&secrets),
        )
        .expect("a pool");
        Self { owner, settings, proxy, db: Arc::new(db), secrets, aws }
    }

    /// The function as it would be started, on this life's Stripe and in its time.
    fn functions(&self, stripe: &Simulator, clock: Clock) -> StripeEvents {
        let base = stripe.base_url().trim_end_matches('/').to_owned();
        let nowhere = || Queue::new(&self.aws, "http://127.0.0.1:9/none".to_owned());
        let stripe = Stripe::new(base, Arc::clone(&self.secrets)).expect("a client");
        let applier = Applier { db: Arc::clone(&self.db), stripe, reads_per_second: 0, clock };
        StripeEvents { applier, queue: nowhere(), outbox_wake: nowhere() }
    }

    /// What it has of these Stripe subscriptions. Tiers that a former plan brought stay with no
    /// slots; who came late never had them. Slots that were paid for a MAIN which has ended are
    /// an ADDON that ended, or, heard of late, a flag.
    async fn state(&self, ids: &[String]) -> Vec<Value> {
        let sql = "SELECT to_jsonb(row) FROM (
                SELECT s.stripe_subscription_id, s.stripe_checkout_session_id, s.tenant_id,
                s.subscription_type, s.parent_subscription_id, s.stripe_paid_until, s.status,
                s.plan_id, s.device_limit, s.term_end, s.grace_end,
                              -- An ADDON that was heard of late starts with the period that it
                              -- was found in.
                       CASE WHEN r.subscription_id IS NULL THEN s.term_start END AS term_start,
                       s.stripe_status, s.stripe_price_id, s.stripe_period_end, s.stripe_cancel_at,
                       s.stripe_collection_paused,
                       (SELECT jsonb_object_agg(a.tier_id, a.slot_limit)
                       FROM subscription_tier_allocations a
                        WHERE a.subscription_id = s.subscription_id AND a.slot_limit > 0) AS slots
                FROM subscriptions s LEFT JOIN subscriptions r
                ON r.subscription_id = s.parent_subscription_id
                WHERE coalesce(r.stripe_subscription_id, s.stripe_subscription_id) = ANY($1)
                AND r.status IS DISTINCT FROM 'EXPIRED' ORDER BY 2) AS row";
        self.owner
            .query(sql, &[&ids])
            .await
            .expect("the state")
            .iter()
            .map(|row| row.get(0))
            .collect()
    }

    /// Events that could not be applied: none but payments of slots whose MAIN was over.
    async fn failed(&self) -> Vec<Value> {
        let sql = "SELECT jsonb_build_object('type', event_type, 'reason', status_reason)
                   FROM stripe_events
                   WHERE status = 'failed' AND status_reason NOT LIKE 'the add-on is paid, but%'";
        self.owner.query(sql, &[]).await.expect("events").iter().map(|row| row.get(0)).collect()
    }

    /// The live MAIN of this Stripe subscription that slots can be ordered for.
    async fn main(&self, stripe: &str, now: Timestamp) -> Option<(String, String)> {
        let sql = "SELECT subscription_id, tenant_id FROM subscriptions
                   WHERE stripe_subscription_id = $1 AND status IN ('TRIAL', 'ACTIVE')
                   AND term_end > $2::timestamptz + interval '1 hour'";
        let row = self.owner.query_opt(sql, &[&stripe, &now]).await.expect("a MAIN");
        row.map(|row| (row.get(0), row.get(1)))
    }

    /// An order, as the API would have left it: the same on both sides, because there is one
    /// database in truth.
    async fn order(&self, order: &str, tenant: &str, parent: &str, slots: i32, now: Timestamp) {
        let sql = "INSERT INTO addon_orders (order_id, tenant_id, parent_subscription_id, interval,
                   term_end, remaining_days, period_days, lines, amount_cents, currency, expires_at,
                   created_at, updated_at)
                   SELECT $1, $2, $3, 'month', term_end, 30, 30,
                          jsonb_build_array(jsonb_build_object('tier_id', 2, 'name', 'standard',
                          'display_name', 'Standard', 'additional_slots', $4::integer,
                          'slot_price_cents', 300, 'amount_cents', 300 * $4::integer, 'calculation',
                          'whole')), 300 * $4::integer, 'usd',
                          $5::timestamptz + interval '35 minutes', $5, $5
                   FROM subscriptions WHERE subscription_id = $3";
        self.owner.execute(sql, &[&order, &tenant, &parent, &slots, &now]).await.expect("an order");
    }
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

/// One customer, at Stripe and in time.
struct Life<'a> {
    luck: Luck,
    stripe: &'a Simulator,
    now: Arc<AtomicI64>,
    name: String,
    customer: Option<String>,
    subscription: Option<String>,
    paying_later: Option<String>,
    /// Checkouts of slots that are open.
    orders: Vec<String>,
    seen: usize,
}

impl Life<'_> {
    fn pass(&mut self, days: usize) {
        let seconds = i64::try_from(days).expect("days") * 86_400
            + i64::try_from(self.luck.below(86_400)).expect("seconds");
        let now = self.now.fetch_add(seconds, Ordering::SeqCst) + seconds;
        self.stripe.advance_to(Timestamp::from_second(now).expect("an instant"));
    }

    fn status(&self) -> String {
        let subscription = self.subscription.as_ref().and_then(|id| self.stripe.object(id));
        subscription.map_or_else(String::new, |subscription| text(&subscription["status"]))
    }

    /// Checks out, for the first time or again.
    fn subscribe(&mut self) {
        let price = PLANS[self.luck.below(3)].0;
        let mut params = CheckoutParams {
            customer: self.customer.clone(),
            ..CheckoutParams::subscription(price)
        };
        let metadata = [
            ("company_name", self.name.clone()),
            ("admin_email", format!("{}@lives.example", self.name)),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into();
        if self.luck.percent(50) {
            params.metadata = metadata;
        } else {
            params.subscription_metadata = metadata;
        }
        params.trial_period_days = self.luck.percent(30).then_some(14);
        let session = self.stripe.create_checkout(params).expect("a checkout");
        let payer = payer(&format!("{}@lives.example", self.name));
        let later = self.luck.percent(15);
        let paid = if later {
            self.stripe.pay_async(&session, payer)
        } else {
            self.stripe.pay(&session, payer)
        };
        // A card that declines leaves the session open.
        let Ok(paid) = paid else { return };
        (self.customer, self.subscription) =
            (Some(text(&paid["customer"])), Some(text(&paid["subscription"])));
        self.paying_later = later.then_some(session);
    }

    /// Something happens. What Stripe refuses does not.
    fn step(&mut self) -> &'static str {
        let (stripe, subscription) = (self.stripe, self.subscription.clone().unwrap_or_default());
        let customer = self.customer.clone().unwrap_or_default();
        match self.luck.below(20) {
            0 => {
                stripe.set_card(&customer, Card::Declines);
                "the card declines"
            }
            1 | 2 => {
                stripe.set_card(&customer, Card::Works);
                "the card works"
            }
            3 => {
                drop(stripe.pay_open_invoices(&subscription));
                "open invoices are paid"
            }
            4 | 5 => {
                drop(stripe.change_plan(&subscription, PLANS[self.luck.below(3)].0));
                "another plan"
            }
            6 => {
                drop(stripe.cancel_at_period_end(&subscription, true));
                "ends with its period"
            }
            7 => {
                drop(stripe.cancel_in_portal(&subscription, self.luck.percent(50)));
                "ends or renews, by the portal"
            }
            8 if self.status() == "paused" => {
                // Grace after a suspension depends on what came first, by the rule itself.
                stripe.set_card(&customer, Card::Works);
                drop(stripe.resume(&subscription));
                "resumed"
            }
            8 if self.status() == "active" => {
                drop(stripe.pause(&subscription));
                "paused"
            }
            9 => {
                drop(
                    stripe.pause_collection(&subscription, self.luck.percent(50).then_some("void")),
                );
                "collection paused or not"
            }
            10 => {
                drop(stripe.cancel(&subscription));
                "cancelled"
            }
            11 | 12 if ["", "canceled"].contains(&self.status().as_str()) => {
                self.subscribe();
                "subscribed again"
            }
            13 => {
                if let Some(invoice) = stripe
                    .object(&subscription)
                    .and_then(|found| found["latest_invoice"].as_str().map(str::to_owned))
                {
                    drop(if self.luck.percent(50) {
                        stripe.refund(&invoice, None)
                    } else {
                        stripe.dispute(&invoice)
                    });
                }
                "refunded or disputed"
            }
            14 if self.paying_later.is_some() => {
                let session = self.paying_later.take().unwrap_or_default();
                drop(if self.luck.percent(60) {
                    stripe.settle(&session)
                } else {
                    stripe.fail_async(&session)
                });
                "the bank answers"
            }
            15 | 16 if !self.orders.is_empty() => {
                let session = self.orders.swap_remove(self.luck.below(self.orders.len()));
                drop(stripe.pay(&session, payer(&format!("{}@lives.example", self.name))));
                "slots are paid"
            }
            _ => {
                let days = 1 + self.luck.below(40);
                self.pass(days);
                "time passes"
            }
        }
    }

    /// Orders slots for the MAIN, by an order of ours or as a Stripe subscription of their own.
    /// False where there is none to order for.
    async fn order(&mut self, functions: &StripeEvents, in_order: &Side, disorder: &Side) -> bool {
        let now = Timestamp::from_second(self.now.load(Ordering::SeqCst)).expect("an instant");
        let (Some(stripe), Some(customer)) = (&self.subscription, &self.customer) else {
            return false;
        };
        let Some((parent, tenant)) = in_order.main(stripe, now).await else { return false };
        assert_eq!(
            disorder.main(stripe, now).await,
            Some((parent.clone(), tenant.clone())),
            "both have heard all"
        );
        let slots = 1 + self.luck.below(4);
        if self.luck.percent(40) {
            let metadata = [("tenant_id", tenant), ("parent_subscription_id", parent)]
                .map(|(key, value)| (key.to_owned(), value))
                .into();
            let own = CheckoutParams {
                metadata,
                quantity: slots as u64,
                customer: Some(customer.clone()),
                ..CheckoutParams::subscription("price_standard_slot_month")
            };
            self.orders.push(self.stripe.create_checkout(own).expect("a checkout"));
            return true;
        }
        let order = format!("ord_{:032x}", u128::from(self.luck.0));
        let count = i32::try_from(slots).expect("few");
        for side in [in_order, disorder] {
            side.order(&order, &tenant, &parent, count, now).await;
        }
        let new = NewPayment {
            tenant: &TenantId::parse(&tenant).expect("an id"),
            customer: &StripeCustomerId::parse(customer).expect("an id"),
            parent: &SubscriptionId::parse(&parent).expect("an id"),
            order: &AddonOrderId::parse(&order).expect("an id"),
            lines: &[("Slots".to_owned(), 300 * i64::from(count))],
            expires_at: now + SignedDuration::from_mins(35),
            success_url: "https://app.pulse.example/",
            cancel_url: "https://app.pulse.example/",
        };
        let opened = functions.applier.stripe.create_payment_session(&new, &order).await;
        self.orders.push(opened.expect("a checkout").id.to_string());
        true
    }
}

/// What a Stripe subscription must be here, read off Stripe's own objects by rules written down
/// once more.
fn expected(stripe: &Simulator, id: &str, had: &Value) -> Value {
    let subscription = stripe.object(id).expect("a subscription");
    let status = text(&subscription["status"]);
    let ours = match status.as_str() {
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
    let (_, plan, devices) =
        PLANS.into_iter().find(|(id, ..)| *id == price).expect("a plan's price");
    json!({"status": ours, "plan_id": plan, "device_limit": devices, "stripe_status": status})
}

/// Leads one life; what differs, if anything.
async fn lead(seed: u64, in_order: &Side, disorder: &Side) -> Result<(), String> {
    let stripe = tests::stripe().await;
    let mut luck = Luck(seed);
    let then = [GivenUp::Canceled, GivenUp::Unpaid, GivenUp::PastDue][luck.below(3)];
    stripe.set_dunning(Dunning { retry_days: vec![3, 5, 7], then });
    let start: Timestamp = "2026-01-31T10:00:00Z".parse().expect("an instant");
    let now = Arc::new(AtomicI64::new(start.as_second()));
    stripe.set_now(start);
    let clock = tests::clock_at(&now);
    let (first, second) =
        (in_order.functions(&stripe, clock.clone()), disorder.functions(&stripe, clock));
    let proxy = disorder.proxy.as_ref().expect("a proxy");

    let mut life = Life {
        luck,
        stripe: &stripe,
        now,
        name: format!("life-{seed}"),
        customer: None,
        subscription: None,
        paying_later: None,
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
    let (calm, wild) = (in_order.state(&ids).await, disorder.state(&ids).await);
    if calm != wild {
        return Err(format!(
            "in order:    {}\nin disorder: {}\n{story:?}",
            json!(calm),
            json!(wild)
        ));
    }
    for had in calm.iter().filter(|had| had["subscription_type"] == "MAIN") {
        let expected = expected(&stripe, &text(&had["stripe_subscription_id"]), had);
        for (field, value) in expected.as_object().into_iter().flatten() {
            if had[field] != *value {
                return Err(format!("{field}: Stripe's {value}, ours {}; {story:?}", had[field]));
            }
        }
    }
    Ok(())
}

/// Hands what has happened to the side of order, and returns it.
async fn follow(life: &mut Life<'_>, functions: &StripeEvents) -> Result<Vec<Value>, String> {
    let news = tests::news(life.stripe, &mut life.seen);
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
        if luck.percent(15) {
            late.push(event.clone());
        }
        // A queue hands no message out twice in one batch.
        if batch.iter().all(|other: &Value| other["id"] != event["id"]) {
            batch.push(event);
        } else {
            late.push(event);
        }
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

/// Keycloak fails as well; in the end each company that paid has one login.
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
    let now = Arc::new(AtomicI64::new(
        "2028-01-01T00:00:00Z".parse::<Timestamp>().expect("an instant").as_second(),
    ));
    let provisioning = Provisioning::start(&env(&side.settings, &settings), tests::clock_at(&now))
        .await
        .expect("provisioning");
    for round in 0..200 {
        keycloak.fail_next(round % 3, 503);
        provisioning.outbox.run(Duration::from_mins(1)).await.map_err(|error| error.to_string())?;
        now.fetch_add(600, Ordering::SeqCst);
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
        .query("SELECT tenant_id FROM tenants WHERE tenant_id LIKE 'life-%' ORDER BY 1", &[])
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
    let seeds = only.map_or(0..said("PULSE_LIVES").unwrap_or(LIVES), |seed| seed..seed + 1);
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
