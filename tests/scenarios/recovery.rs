//! What docs/operations.md has an operator do after an outage, and when a secret is rotated: no
//! event is lost, none has a second effect.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lambda_http::Body;
use serde_json::{Value, json};
use shared::domain::events::signature;
use shared::outside::secrets::{Role, Secrets};
use simulators::stripe::Card;
use tests::api::{Api, Who};
use tests::{World, payer, request, text};
use webhook::Webhook;

/// The day of the story on which the webhook goes away: the last before its customers renew.
const OUTAGE: i64 = 27;

/// What stands in the database of a customer's business, without what tells one run from another:
/// ids, and the times of our own clock.
pub(super) async fn business(world: &World) -> Value {
    let rows = async |sql: &str| json!(world.rows(sql).await);
    json!({
        "tenants": rows("SELECT tenant_id, name, status, billing_email, contact_email,
                         address_line1, country, phone FROM tenants ORDER BY 1").await,
        "subscriptions": rows(
            "SELECT tenant_id, subscription_type, status, plan_id, device_limit, term_start,
             term_end, grace_end, stripe_price_id, stripe_status, stripe_cancel_at,
             stripe_collection_paused FROM subscriptions WHERE created_by = 'stripe'
             ORDER BY 1, term_start, 3"
        )
        .await,
        "slots": rows("SELECT tenant_id, tier_id, slot_limit, slots_used
                       FROM subscription_tier_allocations ORDER BY 1, 2, 3").await,
        "steps": rows("SELECT tenant_id, kind, status FROM outbox_steps ORDER BY 1, 2").await,
        "flags": rows("SELECT tenant_id, kind FROM flags ORDER BY 1, 2").await,
        "events": rows("SELECT event_type, status, tenant_id, count(*) FROM stripe_events
                        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3").await,
    })
}

/// Hands what happened at Stripe since the last time to the webhook, as long as it is up.
struct Endpoint {
    is_up: bool,
    seen: usize,
}

impl Endpoint {
    async fn hear(&mut self, world: &World) {
        let news = tests::new_events(&world.stripe, &mut self.seen);
        if self.is_up {
            world.receive(&news.iter().collect::<Vec<_>>()).await;
        }
    }
}

/// Customers of before an outage, who go on during it; new ones come. A month and some days, so
/// that they renew while nothing listens.
async fn story(world: &World, endpoint: &mut Endpoint, began: Timestamp, outage: bool) {
    let at = |days: i64, minutes: i64| {
        began + SignedDuration::from_hours(24 * days) + SignedDuration::from_mins(minutes)
    };
    let of =
        |session: &str, what: &str| text(&world.stripe.object(session).expect("a session")[what]);
    world.stripe.set_now(began);
    let mut sessions = Vec::new();
    for name in ["cancels", "fails", "upgrades", "moves", "refunded"] {
        sessions.push(world.paid_checkout(name, &format!("{name}@drill.example")).0);
        endpoint.hear(world).await;
    }
    let [cancels, fails, upgrades, moves, refunded] = &sessions[..] else { panic!("five") };
    world.stripe.advance_to(at(OUTAGE, 0));
    endpoint.hear(world).await;

    endpoint.is_up = !outage;
    world.stripe.cancel(&of(cancels, "subscription")).expect("cancelled");
    world.stripe.set_card(&of(fails, "customer"), Card::Declines);
    let late = world.checkout(
        "price_pro_month",
        &[("plan_id", "pro"), ("company_name", "debits"), ("admin_email", "debits@drill.example")],
    );
    world.stripe.pay_async(&late, payer("debits@drill.example")).expect("begun");
    endpoint.hear(world).await;
    for n in 0..3 {
        world.stripe.set_now(at(OUTAGE, 10 + n));
        let _ = world.paid_checkout(&format!("new {n}"), &format!("new-{n}@drill.example"));
        // One repetition of Stripe's came through.
        endpoint.is_up |= n == 1;
        endpoint.hear(world).await;
        endpoint.is_up = !outage;
    }
    world.stripe.set_now(at(OUTAGE, 20));
    world
        .stripe
        .change_plan(&of(upgrades, "subscription"), "price_enterprise_month")
        .expect("changed");
    endpoint.hear(world).await;
    world.stripe.set_now(at(OUTAGE, 30));
    world.stripe.settle(&late).expect("settled");
    endpoint.hear(world).await;
    world
        .stripe
        .update_customer(&of(moves, "customer"), &json!({"phone": "+49 431 1"}))
        .expect("changed");
    world.stripe.cancel_at_period_end(&of(moves, "subscription"), true).expect("to be cancelled");
    let invoice =
        text(&world.stripe.object(&of(refunded, "subscription")).expect("it")["latest_invoice"]);
    world.stripe.refund(&invoice, None).expect("refunded");
    endpoint.hear(world).await;
    // Renewals, one of which fails, and the end of who cancelled.
    for hours in 1..6 * 8 {
        world.stripe.advance_to(at(OUTAGE, 60 * 3 * hours));
        endpoint.hear(world).await;
    }
    endpoint.is_up = true;
}

pub(super) async fn backfill_all(api: &Api, from: &str, to: &str) -> Value {
    let (mut cursor, mut sum) = (Value::Null, [0, 0, 0]);
    loop {
        let body = json!({"from": from, "to": to, "cursor": cursor});
        let part =
            api.write("POST", "/api/v1/operator/stripe-events/backfill", body).await.expect(200);
        for (sum, count) in sum.iter_mut().zip(["received", "enqueued", "already_known"]) {
            *sum += part[count].as_u64().expect("a count");
        }
        if part["done"] == true {
            return json!(sum);
        }
        cursor = part["next_cursor"].clone();
    }
}

/// The drill of docs/operations.md, "Backfill after an outage": six days in which Stripe reached
/// nobody, and gave up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_and_its_backfill_the_database_is_as_if_nothing_had_happened() {
    let now = shared::base::clock::Clock::system().now();
    let began = now
        - SignedDuration::from_hours(24 * (OUTAGE + 6))
        - SignedDuration::from_nanos(now.subsec_nanosecond().into());
    let (calm, hit) = tokio::join!(World::new(), World::new());
    let up = async |world: &World, outage| {
        story(world, &mut Endpoint { is_up: true, seen: 0 }, began, outage).await;
    };
    tokio::join!(up(&calm, false), up(&hit, true));
    let expected = business(&calm).await;
    let before = business(&hit).await;
    assert_ne!(before, expected);
    assert_eq!(
        (
            calm.count("subscriptions WHERE created_by = 'stripe'").await,
            hit.count("subscriptions WHERE created_by = 'stripe'").await
        ),
        (9, 6)
    );

    let api = hit.api().await;
    let (from, to) = (
        began + SignedDuration::from_hours(24 * (OUTAGE - 1)),
        now + SignedDuration::from_hours(1),
    );
    let sum = backfill_all(&api, &from.to_string(), &to.to_string()).await;
    assert!(
        sum[1].as_u64() > Some(20) && sum[2].as_u64() > Some(0),
        "received, queued, known: {sum}"
    );
    assert_eq!(hit.drain().await, 0);
    assert_eq!(hit.count("stripe_events WHERE status IN ('waiting', 'failed')").await, 0);
    let after = business(&hit).await;
    for (part, rows) in expected.as_object().expect("parts") {
        assert_eq!(&after[part], rows, "{part}");
    }
    // Twice is once.
    let again = backfill_all(&api, &from.to_string(), &to.to_string()).await;
    assert_eq!((&again[0], &again[1], &again[2]), (&sum[0], &json!(0), &sum[0]));
    let audited = api
        .get(Who::Operator, "/api/v1/operator/audit?event_type=STRIPE_BACKFILL")
        .await
        .expect(200);
    assert_eq!(audited["count"], 1);
    for world in [&calm, &hit] {
        while world.outbox().await["done"] != 0 {}
        let mut users: Vec<_> = world
            .keycloak
            .users()
            .into_iter()
            .map(|user| (user.username, user.mails_sent))
            .collect();
        users.sort();
        assert_eq!(users.len(), 9);
        assert!(users.iter().all(|(_, mails)| *mails == 1), "{users:?}");
    }
}

/// What Stripe has to deliver, and signs with every secret that is in force there.
struct Stripe<'a> {
    world: &'a World,
    secrets: Vec<&'static str>,
    undelivered: Vec<Value>,
    sent: usize,
}

impl Stripe<'_> {
    /// A customer buys; Stripe delivers the event, and what could not be delivered before. Answers
    /// the statuses.
    async fn deliver(&mut self, instance: &Webhook) -> Vec<u16> {
        let (_, event) = self.world.paid_checkout(
            &format!("Buyer {}", self.sent),
            &format!("buyer-{}@rotation.example", self.sent),
        );
        self.sent += 1;
        self.undelivered.push(event);
        self.repeat(instance).await
    }

    async fn repeat(&mut self, instance: &Webhook) -> Vec<u16> {
        let mut statuses = Vec::new();
        for event in std::mem::take(&mut self.undelivered) {
            let (body, now) = (event.to_string(), instance.clock.now().as_second());
            let signed: Vec<String> = self
                .secrets
                .iter()
                .map(|secret| signature::sign(secret, now, body.as_bytes()))
                .collect();
            // One time, then a v1 for each.
            let header = signed.join(",").replace(&format!(",t={now}"), "");
            let status =
                instance.handle(request(Body::Text(body), &header)).await.status().as_u16();
            statuses.push(status);
            if status != 200 {
                self.undelivered.push(event);
            }
        }
        statuses
    }
}

/// The steps of docs/operations.md, "Rotating the webhook secret without losing an event", with an
/// instance that may read its secret at any time, and one that has just read it; and the same in a
/// hurry, the old secret void at Stripe at once.
#[tokio::test]
async fn a_webhook_secret_is_rotated_and_no_event_is_lost() {
    let world = World::new().await;
    let aws = tests::aws();
    let manager = aws_sdk_secretsmanager::Client::new(&aws);
    let prefix = format!("{}/", world.settings["DATABASE_NAME"]);
    let name = format!("{prefix}webhook");
    let list = |secrets: &[&str]| json!({"STRIPE_WEBHOOK_SECRET": secrets}).to_string();
    manager
        .create_secret()
        .name(&name)
        .secret_string(list(&["whsec_old"]))
        .send()
        .await
        .expect("a secret");
    let put = async |secrets: &[&str]| {
        drop(
            manager
                .put_secret_value()
                .secret_id(&name)
                .secret_string(list(secrets))
                .send()
                .await
                .expect("put"),
        );
    };
    let env = world.env(&[("SECRETS_PREFIX", &prefix)]);
    // A minute, in a deployment.
    let rest = Duration::from_secs(2);
    let instance = async |rest| Webhook {
        secrets: Secrets::read_with(&aws, &env, Role::Webhook, rest).await.expect("the secret"),
        queue: world.webhook.queue.clone(),
        dead_letters: world.webhook.dead_letters.clone(),
        clock: world.webhook.clock.clone(),
    };
    let old = instance(Duration::ZERO).await;
    let mut stripe =
        Stripe { world: &world, secrets: vec!["whsec_old"], undelivered: Vec::new(), sent: 0 };
    assert_eq!(stripe.deliver(&old).await, [200]);

    // 1. Rolled at Stripe, which signs with both for a day: no function knows the new one.
    stripe.secrets = vec!["whsec_new", "whsec_old"];
    assert_eq!(stripe.deliver(&old).await, [200]);
    let fresh = instance(rest).await;
    // 2. Both in the list.
    put(&["whsec_new", "whsec_old"]).await;
    assert_eq!(stripe.deliver(&old).await, [200]);
    assert_eq!(stripe.deliver(&fresh).await, [200]);
    // 3. The old one ends at Stripe. Who has not read the list since reads it now; who has read it
    //    a moment before it changed, later.
    stripe.secrets = vec!["whsec_new"];
    assert_eq!(stripe.deliver(&old).await, [200]);
    assert_eq!(stripe.deliver(&fresh).await, [400]);
    tokio::time::sleep(rest).await;
    assert_eq!(stripe.deliver(&fresh).await, [200, 200], "what it refused comes again");
    // 4. Only the new one in the list. Whoever still has the old secret is refused by what reads
    //    the list.
    put(&["whsec_new"]).await;
    assert_eq!(stripe.deliver(&old).await, [200]);
    let forged = |secret: &str| signature::sign(secret, old.clock.now().as_second(), b"{}");
    for secret in ["whsec_never", "whsec_old"] {
        assert_eq!(
            old.handle(request(Body::Text("{}".to_owned()), &forged(secret))).await.status(),
            400
        );
    }

    // In a hurry: it leaked, and is void at Stripe before anybody here knows the new one.
    stripe.secrets = vec!["whsec_next"];
    assert_eq!(
        (stripe.deliver(&old).await, stripe.deliver(&old).await),
        (vec![400], vec![400, 400])
    );
    put(&["whsec_next"]).await;
    assert_eq!(stripe.repeat(&old).await, [200, 200]);

    assert_eq!((stripe.undelivered.len(), world.drain().await), (0, 0));
    let sent = i64::try_from(stripe.sent).expect("a few");
    assert_eq!(
        (
            world.count("stripe_events WHERE status = 'applied'").await,
            world.count("stripe_events").await
        ),
        (sent, sent)
    );
    assert_eq!(world.count("subscriptions WHERE created_by = 'stripe'").await, sent);
}
