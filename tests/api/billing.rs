//! `billing`, the routes to buy and to pay by.

use std::time::Duration;

use billing::BillingApp;
use futures::future::join_all;
use serde_json::{Value, json};
use shared::base::clock::Clock;
use shared::http::app::AppState as _;
use shared::outside::secrets::{Role, Secrets};
use shared::process::config::Env;
use tests::api::{Api, Reply, Who};
use tests::{World, payer, stack, text};

const BILLING: &str = "/api/v1/customer/billing";
const ACME: Who<'static> = Who::Customer("acme");
const BOLT: Who<'static> = Who::Customer("bolt");

/// A world with the two tenants, neither of them known to Stripe.
async fn world() -> (World, Api) {
    let world = World::new().await;
    let tenants = "INSERT INTO tenants (tenant_id, name, billing_email)
                   VALUES ('acme', 'Acme', 'pay@acme.example'), ('bolt', 'Bolt', NULL)";
    world.db.execute(tenants, &[]).await.expect("tenants");
    let api = world.api().await;
    (world, api)
}

fn wanted() -> Value {
    json!({
        "plan_id": "pro", "interval": "month",
        "success_url": "https://app.pulse.example/done?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://app.pulse.example/plans",
    })
}

/// `wanted` with some of it otherwise.
fn but(change: &Value) -> Value {
    let mut body = wanted();
    for (name, value) in change.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

async fn checkout(api: &Api, who: Who<'_>, body: Value) -> Reply {
    api.send(who, "POST", &format!("{BILLING}/checkout"), &[], Some(body)).await
}

async fn checkout_as(api: &Api, key: &str, body: Value) -> Reply {
    api.send(ACME, "POST", &format!("{BILLING}/checkout"), &[("idempotency-key", key)], Some(body))
        .await
}

/// As a client does that is told that the first request still runs.
async fn patiently(api: &Api, key: &str, body: Value) -> Reply {
    loop {
        let reply = checkout_as(api, key, body.clone()).await;
        if reply.body["code"] != "request_in_progress" {
            return reply;
        }
        assert_eq!((reply.status, reply.header("retry-after")), (409, "1"));
    }
}

async fn portal(api: &Api, who: Who<'_>, return_url: &str) -> Reply {
    api.send(
        who,
        "POST",
        &format!("{BILLING}/portal"),
        &[],
        Some(json!({"return_url": return_url})),
    )
    .await
}

async fn stands(api: &Api, who: Who<'_>, session: &str) -> Reply {
    api.get(who, &format!("{BILLING}/checkout/{session}")).await
}

/// What Stripe holds of a kind.
async fn at_stripe(world: &World, kind: &str) -> Vec<Value> {
    let url = format!("{}v1/{kind}?limit=100", world.stripe.base_url());
    let answer = reqwest::Client::new()
        .get(url)
        .bearer_auth(stack("STRIPE_SECRET_KEY"))
        .send()
        .await
        .expect("an answer");
    answer.json::<Value>().await.expect("JSON")["data"].as_array().expect("a list").clone()
}

async fn objects(world: &World) -> (usize, usize) {
    (at_stripe(world, "customers").await.len(), at_stripe(world, "checkout/sessions").await.len())
}

async fn linked(world: &World, tenant: &str) -> Value {
    world.row(&format!("SELECT stripe_customer_id FROM tenants WHERE tenant_id = '{tenant}'")).await
        ["stripe_customer_id"]
        .clone()
}

async fn audit(world: &World) -> Vec<Value> {
    world
        .rows(
            "SELECT event_type, actor_type, tenant_id, previous_state, new_state
                FROM subscription_audit ORDER BY id",
        )
        .await
}

#[tokio::test]
async fn the_offer_is_the_active_plans_with_what_can_be_bought() {
    let (_, api) = world().await;
    api.write("PUT", "/api/v1/operator/plans/enterprise", json!({"is_active": false}))
        .await
        .expect(200);
    api.write("PUT", "/api/v1/operator/plans/starter", json!({"stripe_annual_price_id": null}))
        .await
        .expect(200);
    api.write(
        "POST",
        "/api/v1/operator/plans",
        json!({"plan_id": "custom", "name": "Custom", "sort_order": 9}),
    )
    .await
    .expect(201);
    let offer = api.get(ACME, &format!("{BILLING}/config")).await.expect(200);
    assert_eq!(offer["publishable_key"], "pk_test_tests");
    let plans = offer["plans"].as_array().expect("plans");
    let sold: Vec<_> = plans
        .iter()
        .map(|plan| {
            (text(&plan["plan_id"]), plan["sold_monthly"] == true, plan["sold_annually"] == true)
        })
        .collect();
    assert_eq!(
        sold,
        [
            ("starter".to_owned(), true, false),
            ("pro".to_owned(), true, true),
            ("custom".to_owned(), false, false)
        ]
    );
    let expected = json!({
        "plan_id": "pro", "name": "Pro", "description": "For a growing fleet", "device_limit": 260,
        "limits": {"alert_rules": 25, "notification_channels": 5, "users": 5},
        "monthly_price_cents": 29900, "annual_price_cents": 299_000,
        "sold_monthly": true, "sold_annually": true,
    });
    assert_eq!(plans[1], expected);
    assert!(!offer.to_string().contains("price_pro"), "no id of Stripe's");
    assert!(!offer.to_string().contains("sk_"));
    let unknown = api.get(Who::Customer("nobody"), &format!("{BILLING}/config")).await;
    unknown.problem(403, "tenant_deleted");
}

#[tokio::test]
async fn the_status_shows_what_has_not_ended_with_its_effective_status_and_slots() {
    let (world, api) = world().await;
    let none = api.get(ACME, &format!("{BILLING}/status")).await.expect(200);
    assert_eq!(
        none,
        json!({"linked": false, "billing_email": "pay@acme.example", "support_tier": "standard",
        "subscriptions": []})
    );
    let create = async |body: Value| text(&api.create_subscription(body).await["subscription_id"]);
    let new = |tenant: &str, kind: &str| {
        json!({"tenant_id": tenant, "subscription_type": kind,
    "device_limit": 5, "term_days": 30})
    };
    let main = create(new("acme", "MAIN")).await;
    let addon =
        create(json!({"tenant_id": "acme", "subscription_type": "ADDON", "device_limit": 3,
        "parent_subscription_id": main}))
        .await;
    let over = create(new("acme", "TEMPORARY")).await;
    create(new("bolt", "MAIN")).await;
    let slots = json!({"tier_id": 2, "slot_limit": 4});
    api.write("POST", &format!("/api/v1/operator/subscriptions/{main}/tier-allocations"), slots)
        .await
        .expect(201);
    api.send(
        ACME,
        "POST",
        "/api/v1/customer/devices",
        &[],
        Some(json!({"device_id": "D", "subscription_id": main})),
    )
    .await
    .expect(201);
    api.write(
        "PATCH",
        &format!("/api/v1/operator/subscriptions/{over}"),
        json!({"status": "EXPIRED"}),
    )
    .await
    .expect(200);
    api.write(
        "PATCH",
        &format!("/api/v1/operator/subscriptions/{main}"),
        json!({"status": "SUSPENDED"}),
    )
    .await
    .expect(200);
    world
        .db
        .execute("UPDATE tenants SET stripe_customer_id = 'cus_acme' WHERE tenant_id = 'acme'", &[])
        .await
        .expect("linked");
    let status = api.get(ACME, &format!("{BILLING}/status")).await.expect(200);
    assert_eq!(status["linked"], true);
    assert!(!status.to_string().contains("cus_"), "no id of Stripe's");
    let [first, second] = status["subscriptions"].as_array().expect("subscriptions").as_slice()
    else {
        panic!("{status}")
    };
    assert_eq!(
        (&first["subscription_id"], &first["status"], &first["effective_status"]),
        (&json!(main), &json!("SUSPENDED"), &json!("SUSPENDED"))
    );
    assert_eq!(
        (&first["device_limit"], &first["active_device_count"], &first["stripe_managed"]),
        (&json!(5), &json!(1), &json!(false))
    );
    assert_eq!(
        (&first["allocations"][0]["slot_limit"], &first["allocations"][0]["effective_limit"]),
        (&json!(4), &json!(0))
    );
    assert_eq!(
        (&second["subscription_id"], &second["status"], &second["effective_status"]),
        (&json!(addon), &json!("ACTIVE"), &json!("SUSPENDED"))
    );
    assert_eq!(
        (&second["parent_subscription_id"], &second["subscription_type"]),
        (&json!(main), &json!("ADDON"))
    );
}

/// From the button to the subscription: the page is paid, Stripe's news is applied, and the page
/// that the payer comes back to sees it.
#[tokio::test]
async fn a_checkout_that_is_paid_becomes_the_companys_subscription() {
    let (world, api) = world().await;
    let opened = checkout(&api, ACME, wanted()).await.expect(200);
    let (url, session) = (text(&opened["url"]), text(&opened["session_id"]));
    let customer = linked(&world, "acme").await;
    let made = world.stripe.object(customer.as_str().expect("linked")).expect("a customer");
    assert_eq!(
        (&made["name"], &made["email"], &made["metadata"]),
        (&json!("Acme"), &json!("pay@acme.example"), &json!({"tenant_id": "acme"}))
    );
    let at_stripe = world.stripe.object(&session).expect("a session");
    assert_eq!((&at_stripe["customer"], &at_stripe["mode"]), (&customer, &json!("subscription")));
    assert_eq!(at_stripe["metadata"], json!({"tenant_id": "acme", "plan_id": "pro"}));
    assert_eq!(
        (&at_stripe["success_url"], &at_stripe["cancel_url"]),
        (&wanted()["success_url"], &wanted()["cancel_url"])
    );
    assert_eq!(at_stripe["amount_total"], 29_900);
    let (unlinked, now) =
        (json!({"stripe_customer_id": null}), json!({"stripe_customer_id": customer}));
    let linking = json!({"event_type": "TENANT_UPDATED", "actor_type": "customer",
        "tenant_id": "acme", "previous_state": unlinked, "new_state": now});
    assert_eq!(audit(&world).await, [linking]);
    let version = world
        .row(
            "SELECT version, updated_at > created_at AS later FROM tenants
                             WHERE tenant_id = 'acme'",
        )
        .await;
    assert_eq!(version, json!({"version": 2, "later": true}));
    assert_eq!(
        stands(&api, ACME, &session).await.expect(200),
        json!({"status": "pending", "subscription_id": null})
    );

    let browser = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    let paid = browser
        .post(url)
        .form(&[("outcome", "paid"), ("name", "Jane")])
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        paid.headers()["location"].to_str().expect("text"),
        format!("https://app.pulse.example/done?session={session}")
    );
    assert_eq!(
        stands(&api, ACME, &session).await.expect(200)["status"],
        "pending",
        "paid, and not applied yet"
    );
    world.receive(&[&world.event("checkout.session.completed")]).await;

    let status = api.get(ACME, &format!("{BILLING}/status")).await.expect(200);
    let [subscription] = status["subscriptions"].as_array().expect("subscriptions").as_slice()
    else {
        panic!("{status}")
    };
    assert_eq!(
        (&subscription["plan_id"], &subscription["status"], &subscription["stripe_managed"]),
        (&json!("pro"), &json!("ACTIVE"), &json!(true))
    );
    assert_eq!(subscription["allocations"].as_array().map(Vec::len), Some(3));
    let expected =
        json!({"status": "provisioned", "subscription_id": subscription["subscription_id"]});
    assert_eq!(stands(&api, ACME, &session).await.expect(200), expected);
    world.stripe.stop().await;
    assert_eq!(
        stands(&api, ACME, &session).await.expect(200),
        expected,
        "what is here needs no Stripe"
    );
    assert_eq!(
        (
            linked(&world, "acme").await,
            world.count("stripe_customer_aliases").await,
            world.count("flags").await
        ),
        (customer, 0, 0)
    );
}

#[tokio::test]
async fn a_checkout_is_refused_in_words_that_say_what_to_do() {
    let (world, api) = world().await;
    let faults =
        checkout(&api, ACME, json!({"plan_id": "Pro", "interval": "week", "x": 1})).await.faults();
    let expected = [
        "plan_id must match ^[a-z0-9_-]{1,50}$",
        "interval must be one of month, year",
        "x is not a field of this request",
        "success_url is required",
        "cancel_url is required",
    ];
    assert_eq!(
        faults.iter().collect::<std::collections::BTreeSet<_>>(),
        expected.map(str::to_owned).iter().collect()
    );
    let unknown = checkout(&api, ACME, but(&json!({"plan_id": "none"}))).await;
    assert_eq!(unknown.problem(404, "plan_not_found"), "Plan not found");
    api.write("PUT", "/api/v1/operator/plans/enterprise", json!({"is_active": false}))
        .await
        .expect(200);
    checkout(&api, ACME, but(&json!({"plan_id": "enterprise"})))
        .await
        .problem(404, "plan_not_found");
    api.write("PUT", "/api/v1/operator/plans/starter", json!({"stripe_annual_price_id": null}))
        .await
        .expect(200);
    let yearly =
        checkout(&api, ACME, but(&json!({"plan_id": "starter", "interval": "year"}))).await;
    assert_eq!(yearly.faults(), ["interval is not sold for this plan: choose the other one"]);
    api.write("PUT", "/api/v1/operator/plans/starter", json!({"stripe_price_id": null}))
        .await
        .expect(200);
    assert_eq!(
        checkout(&api, ACME, but(&json!({"plan_id": "starter"}))).await.faults(),
        ["plan_id is not sold online: contact sales"]
    );
    assert_eq!(
        (objects(&world).await, linked(&world, "acme").await),
        ((0, 0), Value::Null),
        "a refusal makes no customer"
    );

    // What an operator gave is not paid at Stripe, and does not stand in the way.
    let by_hand = json!({"tenant_id": "acme", "subscription_type": "MAIN", "device_limit": 5,
    "term_days": 30});
    api.write("POST", "/api/v1/operator/subscriptions", by_hand).await.expect(201);
    let session = text(&checkout(&api, ACME, wanted()).await.expect(200)["session_id"]);
    world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
    world.receive(&[&world.event("checkout.session.completed")]).await;
    let again = checkout(&api, ACME, wanted()).await;
    let paid = text(
        &world
            .row(
                "SELECT subscription_id FROM subscriptions
                                WHERE stripe_subscription_id IS NOT NULL",
            )
            .await["subscription_id"],
    );
    let words = format!(
        "{paid} is paid already. Change it in the billing portal, or say additional to buy \
         another one beside it."
    );
    assert_eq!(again.problem(409, "already_subscribed"), words);
    checkout(&api, BOLT, wanted()).await.expect(200);
    checkout(&api, ACME, but(&json!({"additional": true}))).await.expect(200);
    world
        .db
        .execute("UPDATE subscriptions SET status = 'EXPIRED' WHERE subscription_id = $1", &[&paid])
        .await
        .expect("over");
    checkout(&api, ACME, wanted()).await.expect(200);
    assert_eq!(at_stripe(&world, "customers").await.len(), 2, "one a tenant");
}

#[tokio::test]
async fn what_stripe_refuses_is_told_without_its_internals() {
    let (world, api) = world().await;
    api.write("PUT", "/api/v1/operator/plans/pro", json!({"stripe_price_id": "price_of_nowhere"}))
        .await
        .expect(200);
    let gone = checkout(&api, ACME, wanted()).await;
    let words = "Stripe does not sell this plan at this moment. Choose another plan or interval, \
                 or contact support.";
    assert_eq!(gone.problem(409, "price_not_available"), words);
    world
        .db
        .execute("UPDATE tenants SET stripe_customer_id = 'cus_gone' WHERE tenant_id = 'acme'", &[])
        .await
        .expect("linked");
    let words = "The company's billing account no longer exists at Stripe. Contact support to \
                 have it linked anew.";
    let yearly = but(&json!({"interval": "year"}));
    assert_eq!(
        checkout(&api, ACME, yearly.clone()).await.problem(409, "billing_account_gone"),
        words
    );
    assert_eq!(
        portal(&api, ACME, "https://app.pulse.example/").await.problem(409, "billing_account_gone"),
        words
    );
    world.stripe.fail_next_on("/checkout/sessions", 1, 400);
    let refused = checkout(&api, BOLT, yearly).await;
    refused.problem(409, "stripe_refused");
    for answer in [gone, refused] {
        let said = answer.body.to_string();
        assert!(
            !said.contains("price_of")
                && !said.contains("cus_")
                && !said.contains("/v1/")
                && !said.contains("req_"),
            "{said}"
        );
    }
}

/// Each of them, in each of the fields; and nothing is asked of Stripe for it.
#[tokio::test]
async fn nobody_is_sent_to_an_origin_that_is_not_ours() {
    let (world, api) = world().await;
    world
        .db
        .execute("UPDATE tenants SET stripe_customer_id = 'cus_acme' WHERE tenant_id = 'acme'", &[])
        .await
        .expect("linked");
    let message = "must be a whole URL on one of the origins whose pages may call";
    for url in [
        "https://evil.example/",
        "https://app.pulse.example@evil.example/",
        "https://app@evil.example/",
        "https://me@app.pulse.example/",
        "https://app.pulse.example.evil.example/",
        "//evil.example/",
        "//app.pulse.example/",
        "/done",
        "http://app.pulse.example/",
        "https://localhost:3000/",
        "http://localhost:3001/",
        "http://localhost/",
        "https://app.pulse.example:8443/",
        "javascript:alert(1)",
        "javascript://app.pulse.example/%0aalert(1)",
        "data:text/html,x",
        "https://app.pulse.example\\@evil.example/",
        "https://app.pulse.example\n.evil.example/",
        "https:\\\\app.pulse.example/",
        " https://app.pulse.example/",
    ] {
        for field in ["success_url", "cancel_url"] {
            assert_eq!(
                checkout(&api, ACME, but(&json!({field: url}))).await.faults(),
                [format!("{field} {message}")],
                "{url}"
            );
        }
        assert_eq!(
            portal(&api, ACME, url).await.faults(),
            [format!("return_url {message}")],
            "{url}"
        );
    }
    let both = checkout(
        &api,
        ACME,
        but(&json!({"success_url": "https://evil.example", "cancel_url": "//evil.example"})),
    )
    .await;
    assert_eq!(both.faults(), [format!("success_url {message}"), format!("cancel_url {message}")]);
    assert!(world.stripe.requests().is_empty());
    let local = but(&json!({"success_url": "http://localhost:3000",
            "cancel_url": "http://localhost:3000/plans#pro"}));
    checkout(&api, BOLT, local).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tabs_at_once_make_one_customer() {
    let (world, api) = world().await;
    world.stripe.set_latency(Duration::from_millis(100));
    let opened = join_all((0..8).map(|_| checkout(&api, ACME, wanted()))).await;
    let sessions: std::collections::BTreeSet<String> =
        opened.into_iter().map(|reply| text(&reply.expect(200)["session_id"])).collect();
    let customers = at_stripe(&world, "customers").await;
    assert_eq!((customers.len(), sessions.len()), (1, 8), "one customer; each tab its own session");
    assert_eq!(linked(&world, "acme").await, customers[0]["id"]);
    assert!(
        at_stripe(&world, "checkout/sessions")
            .await
            .iter()
            .all(|session| session["customer"] == customers[0]["id"])
    );
    assert_eq!(audit(&world).await.len(), 1, "linked once");
    // Stripe's news links it at the same moment: the one that is linked is used.
    let session = world.checkout("price_pro_month", &[("tenant_id", "bolt")]);
    let paid = world.stripe.pay(&session, payer("jane@bolt.example")).expect("paid");
    let event = world.event("checkout.session.completed");
    let (applied, opened) =
        tokio::join!(world.apply(&event), checkout(&api, BOLT, but(&json!({"additional": true}))));
    assert!(applied);
    let opened = world.stripe.object(&text(&opened.expect(200)["session_id"])).expect("a session");
    assert_eq!(opened["customer"], linked(&world, "bolt").await);
    assert!(
        paid["customer"] == opened["customer"]
            || world.count("stripe_customer_aliases WHERE tenant_id = 'bolt'").await == 1
    );
}

#[tokio::test]
async fn a_stripe_that_fails_is_told_and_leaves_nothing_half_done() {
    let (world, api) = world().await;
    let nothing = ((0, 0), Value::Null, 0);
    let state = async || {
        (
            objects(&world).await,
            linked(&world, "acme").await,
            world.count("subscription_audit").await,
        )
    };
    for (status, tries) in [(500, 3), (503, 3), (429, 3), (401, 1), (403, 3)] {
        world.stripe.fail_next_on("/customers", tries, status);
        let failed = checkout(&api, ACME, wanted()).await;
        assert_eq!(
            failed.problem(502, "upstream"),
            "Stripe failed or did not answer. Try again later.",
            "{status}"
        );
        assert_eq!(state().await, nothing, "{status}");
    }
    // The customer is whole and linked; the session is what failed, and what is repeated.
    world.stripe.fail_next_on("/checkout/sessions", 3, 500);
    checkout_as(&api, "k", wanted()).await.problem(502, "upstream");
    let customer = linked(&world, "acme").await;
    assert_eq!((objects(&world).await, world.count("idempotency_keys").await), ((1, 0), 0));
    let opened = checkout_as(&api, "k", wanted()).await.expect(200);
    assert_eq!((objects(&world).await, linked(&world, "acme").await), ((1, 1), customer));
    let session = text(&opened["session_id"]);
    world.stripe.fail_next(3, 500);
    stands(&api, ACME, &session).await.problem(502, "upstream");
    world.stripe.fail_next(3, 429);
    portal(&api, ACME, "https://app.pulse.example/").await.problem(502, "upstream");
    world.stripe.stop().await;
    for answer in [
        checkout(&api, ACME, wanted()).await,
        stands(&api, ACME, &session).await,
        portal(&api, ACME, "https://app.pulse.example/").await,
    ] {
        answer.problem(502, "upstream");
        assert!(!answer.body.to_string().contains("127.0.0.1"), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_stripe_that_hangs_holds_no_connection_and_is_given_up() {
    let (mut world, _) = world().await;
    let stripe = world.behind("STRIPE_API_BASE").await;
    let api = world.api_with(&world.env(&[("DATABASE_POOL_SIZE", "1")]), Clock::system()).await;
    stripe.stall();
    let began = std::time::Instant::now();
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let open = "SELECT count(*) AS n FROM pg_stat_activity WHERE usename = 'pulse_app'
                    AND datname = current_database() AND xact_start IS NOT NULL";
        assert_eq!(world.row(open).await["n"], 0, "no transaction waits for Stripe");
        // On the only connection.
        api.get(ACME, &format!("{BILLING}/status")).await.expect(200);
        assert!(began.elapsed() < Duration::from_secs(4));
    };
    let (failed, ()) = tokio::join!(checkout_as(&api, "k", wanted()), meanwhile);
    failed.problem(502, "upstream");
    assert!(began.elapsed() < Duration::from_secs(14), "{:?}", began.elapsed());
    assert_eq!(linked(&world, "acme").await, Value::Null);
    stripe.pass();
    checkout_as(&api, "k", wanted()).await.expect(200);
    assert_eq!(objects(&world).await, (1, 1));
}

#[tokio::test]
async fn an_answer_that_was_lost_is_asked_for_again_and_nothing_is_made_twice() {
    let (world, api) = world().await;
    // Lost, and heard by the next try of the same request.
    world.stripe.lose_answer_on("/customers", 500);
    world.stripe.lose_answer_on("/checkout/sessions", 502);
    checkout(&api, ACME, wanted()).await.expect(200);
    assert_eq!(objects(&world).await, (1, 1));
    // Lost with the whole request, and heard by its repetition.
    world.stripe.lose_answer_on("/customers", 500);
    world.stripe.fail_next_on("/customers", 2, 503);
    checkout(&api, BOLT, wanted()).await.problem(502, "upstream");
    assert_eq!(
        (at_stripe(&world, "customers").await.len(), linked(&world, "bolt").await),
        (2, Value::Null)
    );
    checkout(&api, BOLT, wanted()).await.expect(200);
    let customers = at_stripe(&world, "customers").await;
    assert_eq!((customers.len(), linked(&world, "bolt").await), (2, customers[0]["id"].clone()));
    let before = at_stripe(&world, "checkout/sessions").await.len();
    world.stripe.lose_answer_on("/checkout/sessions", 500);
    world.stripe.fail_next_on("/checkout/sessions", 2, 503);
    checkout_as(&api, "k", wanted()).await.problem(502, "upstream");
    let session = text(&checkout_as(&api, "k", wanted()).await.expect(200)["session_id"]);
    let sessions = at_stripe(&world, "checkout/sessions").await;
    assert_eq!((sessions.len(), &sessions[0]["id"]), (before + 1, &json!(session)));
}

/// Stripe refuses a key with other parameters for a day; the company must not wait for that.
#[tokio::test]
async fn a_profile_that_changed_after_a_lost_answer_does_not_stand_in_the_way() {
    let (world, api) = world().await;
    world.stripe.lose_answer_on("/customers", 500);
    world.stripe.fail_next_on("/customers", 2, 503);
    checkout(&api, ACME, wanted()).await.problem(502, "upstream");
    api.send(ACME, "PUT", "/api/v1/customer/organization", &[], Some(json!({"name": "Acme Ltd"})))
        .await
        .expect(200);
    checkout(&api, ACME, wanted()).await.expect(200);
    let customers = at_stripe(&world, "customers").await;
    assert_eq!(
        (&customers[0]["name"], &customers[0]["id"]),
        (&json!("Acme Ltd"), &linked(&world, "acme").await)
    );
    checkout(&api, ACME, wanted()).await.expect(200);
    assert_eq!(at_stripe(&world, "customers").await.len(), customers.len());
}

/// Stripe keeps its own failures for a key as well, and would answer a company that has one key
/// nothing else for a day.
#[tokio::test]
async fn a_failure_that_stripe_keeps_for_a_key_does_not_stand_in_the_way() {
    let (world, api) = world().await;
    for path in ["/customers", "/checkout/sessions"] {
        world.stripe.fail_for_key_on(path);
        checkout_as(&api, path, wanted()).await.expect(200);
    }
    assert_eq!(objects(&world).await, (1, 2));
    world.stripe.fail_for_key_on("/billing_portal");
    portal(&api, ACME, "https://app.pulse.example/").await.expect(200);
    assert_eq!(objects(&world).await, (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_idempotency_key_is_one_session_however_often_and_at_once() {
    let (world, api) = world().await;
    let opened = join_all((0..6).map(|_| patiently(&api, "k", wanted()))).await;
    let first = opened[0].clone().expect(200);
    for reply in opened {
        assert_eq!(reply.expect(200), first);
    }
    assert_eq!(objects(&world).await, (1, 1));
    world.stripe.stop().await;
    assert_eq!(checkout_as(&api, "k", wanted()).await.expect(200), first, "kept");
    world.stripe.restart().await.expect("the same port");
    let other = but(&json!({"interval": "year"}));
    assert_eq!(
        checkout_as(&api, "k", other.clone()).await.faults(),
        ["idempotency-key was used for another request"]
    );
    // Two bodies at once: one of them has the key.
    let (one, two) =
        tokio::join!(patiently(&api, "twice", wanted()), patiently(&api, "twice", other));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 422], "{} {}", one.body, two.body);
    // Another tenant's key of the same text is another one.
    let bolt = api
        .send(
            BOLT,
            "POST",
            &format!("{BILLING}/checkout"),
            &[("idempotency-key", "k")],
            Some(wanted()),
        )
        .await
        .expect(200);
    assert_ne!(bolt["session_id"], first["session_id"]);
}

#[tokio::test]
async fn a_checkout_stands_for_its_own_tenant_only() {
    let (world, api) = world().await;
    let session = text(&checkout(&api, ACME, wanted()).await.expect(200)["session_id"]);
    for (who, id) in [(BOLT, session.as_str()), (ACME, "cs_test_none")] {
        assert_eq!(
            stands(&api, who, id).await.problem(404, "session_not_found"),
            "Checkout session not found"
        );
    }
    stands(&api, ACME, "sub_1").await.problem(404, "not_found");
    world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
    world.receive(&[&world.event("checkout.session.completed")]).await;
    stands(&api, BOLT, &session).await.problem(404, "session_not_found");
    assert_eq!(stands(&api, ACME, &session).await.expect(200)["status"], "provisioned");

    // Without a word of whose it is: by its customer, linked or a further one.
    let foreign = world.checkout("price_pro_month", &[]);
    stands(&api, ACME, &foreign).await.problem(404, "session_not_found");
    let paid = world.stripe.pay(&foreign, payer("jane@acme.example")).expect("paid");
    stands(&api, ACME, &foreign).await.problem(404, "session_not_found");
    let alias =
        "INSERT INTO stripe_customer_aliases (stripe_customer_id, tenant_id) VALUES ($1, 'acme')";
    world.db.execute(alias, &[&text(&paid["customer"])]).await.expect("an alias");
    assert_eq!(stands(&api, ACME, &foreign).await.expect(200)["status"], "pending");
    stands(&api, BOLT, &foreign).await.problem(404, "session_not_found");
    let linked = linked(&world, "acme").await;
    world.stripe.edit_session(&foreign, |session| session["customer"] = linked);
    assert_eq!(stands(&api, ACME, &foreign).await.expect(200)["status"], "pending");
    // What cannot be read is Stripe's failure, and its words are the log's.
    for (field, value) in [
        ("customer", json!("nonsense")),
        ("subscription", json!("nonsense")),
        ("payment_status", Value::Null),
    ] {
        let before = world.stripe.object(&foreign).expect("a session");
        world.stripe.edit_session(&foreign, |session| session[field] = value);
        let failed = stands(&api, ACME, &foreign).await;
        assert_eq!(
            failed.problem(502, "upstream"),
            "Stripe failed or did not answer. Try again later.",
            "{field}"
        );
        world.stripe.edit_session(&foreign, |session| *session = before);
    }
}

#[tokio::test]
async fn a_checkout_that_expired_or_was_not_paid_has_failed() {
    let (world, api) = world().await;
    let open = async || text(&checkout(&api, ACME, wanted()).await.expect(200)["session_id"]);
    let status =
        async |session: &str| stands(&api, ACME, session).await.expect(200)["status"].clone();
    let expired = open().await;
    world.stripe.expire(&expired).expect("expired");
    assert_eq!(status(&expired).await, "failed");
    let debit = open().await;
    world.stripe.pay_async(&debit, payer("jane@acme.example")).expect("paid later");
    assert_eq!(status(&debit).await, "pending", "a bank debit takes days");
    world.stripe.fail_async(&debit).expect("failed");
    assert_eq!(status(&debit).await, "failed");
    let settled = open().await;
    world.stripe.pay_async(&settled, payer("jane@acme.example")).expect("paid later");
    world.stripe.settle(&settled).expect("settled");
    assert_eq!(status(&settled).await, "pending", "its news is under way");
    world.receive(&[&world.event("checkout.session.async_payment_succeeded")]).await;
    assert_eq!(status(&settled).await, "provisioned");
}

#[tokio::test]
async fn the_portal_opens_for_a_company_that_stripe_knows() {
    let (world, api) = world().await;
    let none = portal(&api, ACME, "https://app.pulse.example/billing").await;
    assert_eq!(
        none.problem(409, "no_billing_account"),
        "The company has no billing account yet. It gets one with its first checkout."
    );
    assert!(world.stripe.requests().is_empty());
    checkout(&api, ACME, wanted()).await.expect(200);
    let opened = portal(&api, ACME, "https://app.pulse.example/billing").await.expect(200);
    let session = text(&opened["url"])
        .rsplit('/')
        .next()
        .and_then(|id| world.stripe.object(id))
        .expect("a session");
    assert_eq!(
        (&session["customer"], &session["return_url"]),
        (&linked(&world, "acme").await, &json!("https://app.pulse.example/billing"))
    );
    assert_eq!(opened, json!({"url": session["url"]}), "nothing else of Stripe's");
    portal(&api, BOLT, "https://app.pulse.example/billing")
        .await
        .problem(409, "no_billing_account");
    let again = portal(&api, ACME, "https://app.pulse.example/billing").await.expect(200);
    assert_ne!(again, opened, "each visit is its own");
    assert_eq!(portal(&api, ACME, "").await.faults(), ["return_url must not be empty"]);
}

#[tokio::test]
async fn the_function_does_not_start_without_a_publishable_key_of_the_secret_keys_mode() {
    let (world, _) = world().await;
    let start = async |env: Env| BillingApp::start(&env, Clock::system()).await;
    for (key, expected) in [
        (
            "pk_live_1",
            "STRIPE_PUBLISHABLE_KEY is of another mode than the secret STRIPE_SECRET_KEY",
        ),
        ("sk_test_1", "STRIPE_PUBLISHABLE_KEY is not a key that starts with pk_"),
        ("", "STRIPE_PUBLISHABLE_KEY is empty"),
    ] {
        assert_eq!(
            start(world.env(&[("STRIPE_PUBLISHABLE_KEY", key)]))
                .await
                .err()
                .expect("refused")
                .to_string(),
            expected
        );
    }
    let mut settings = world.settings.clone();
    settings.remove("STRIPE_PUBLISHABLE_KEY");
    let error = start(Env::of(settings)).await.err().expect("refused");
    assert_eq!(error.to_string(), "STRIPE_PUBLISHABLE_KEY is not set");
}

/// In SQL, as customers' role: what the function that links would have to be tricked into.
#[tokio::test]
async fn customers_role_links_its_own_tenant_once_and_nothing_else() {
    let (world, _) = world().await;
    let others = "INSERT INTO tenants (tenant_id, name, stripe_customer_id)
                  VALUES ('cog', 'Cog', 'cus_cog')";
    world.db.execute(others, &[]).await.expect("a tenant");
    world
        .db
        .execute(
            "INSERT INTO stripe_customer_aliases (stripe_customer_id, tenant_id)
                      VALUES ('cus_cog2', 'cog')",
            &[],
        )
        .await
        .expect("an alias");
    let mut app = as_customer(&world).await;
    let link = async |app: &mut tokio_postgres::Client, tenant: Option<&str>, sql: &str| {
        let tx = app.transaction().await.expect("a transaction");
        if let Some(tenant) = tenant {
            tx.execute("SELECT set_config('app.tenant_id', $1, true)", &[&tenant])
                .await
                .expect("set");
        }
        let done = tx.query_one(sql, &[]).await.map(|row| row.get::<_, bool>(0));
        tx.commit().await.expect("ended");
        done.map_err(|error| error.code().map(|state| state.code().to_owned()))
    };
    let denied = Err(Some("42501".to_owned()));
    let update = "UPDATE tenants SET stripe_customer_id = 'cus_mine' RETURNING true";
    assert_eq!(link(&mut app, Some("acme"), update).await, denied, "never directly");
    let to = |customer: &str| format!("SELECT link_stripe_customer('{customer}')");
    for (tenant, customer) in [
        (None, "cus_mine"),
        (Some(""), "cus_mine"),
        (Some("nobody"), "cus_mine"),
        (Some("cog"), "cus_mine"),
        (Some("acme"), "cus_cog"),
        (Some("acme"), "cus_cog2"),
        (Some("acme"), "sub_1"),
        (Some("acme"), ""),
        (Some("acme"), "cus_1 OR true"),
    ] {
        assert_eq!(
            link(&mut app, tenant, &to(customer)).await,
            Ok(false),
            "{customer} as {tenant:?}"
        );
    }
    assert_eq!(
        link(&mut app, Some("acme"), "SELECT coalesce(link_stripe_customer(NULL), false)").await,
        Ok(false)
    );
    // A table of the caller's own, found first by whoever has no path of their own.
    app.batch_execute(
        "CREATE TEMP TABLE tenants (tenant_id text, status text, stripe_customer_id text)",
    )
    .await
    .expect("a temporary table");
    assert_eq!(link(&mut app, Some("acme"), &to("cus_mine")).await, Ok(true));
    app.batch_execute("DROP TABLE pg_temp.tenants").await.expect("dropped");
    assert_eq!(link(&mut app, Some("acme"), &to("cus_other")).await, Ok(false), "a link stays");
    assert_eq!(
        link(&mut app, Some("bolt"), &to("cus_mine")).await,
        Ok(false),
        "and is one tenant's"
    );
    world
        .db
        .execute("UPDATE tenants SET status = 'DELETED' WHERE tenant_id = 'bolt'", &[])
        .await
        .expect("deleted");
    assert_eq!(link(&mut app, Some("bolt"), &to("cus_late")).await, Ok(false));
    let now = world
        .rows(
            "SELECT tenant_id, stripe_customer_id FROM tenants
                          WHERE tenant_id IN ('acme', 'bolt', 'cog') ORDER BY 1",
        )
        .await;
    let of = |tenant: &str, customer: Value| {
        json!({"tenant_id": tenant,
        "stripe_customer_id": customer})
    };
    assert_eq!(
        now,
        [of("acme", json!("cus_mine")), of("bolt", Value::Null), of("cog", json!("cus_cog"))]
    );

    let may = "SELECT string_agg(r.rolname, ' ' ORDER BY r.rolname) AS roles FROM pg_roles r
               WHERE r.rolname LIKE 'pulse^_%' ESCAPE '^'
               AND has_function_privilege(r.oid, 'link_stripe_customer(text)', 'EXECUTE')";
    assert_eq!(world.row(may).await["roles"], "pulse_app pulse_owner");
    let is = "SELECT prosecdef AND proconfig IS NOT NULL
              AND pg_get_userbyid(proowner) = 'pulse_owner' AS pinned FROM pg_proc
              WHERE proname = 'link_stripe_customer'";
    assert_eq!(world.row(is).await["pinned"], true);
}

async fn as_customer(world: &World) -> tokio_postgres::Client {
    let secrets =
        Secrets::read(&tests::aws(), &world.env(&[]), Role::Customer).await.expect("the secret");
    let mut config: tokio_postgres::Config = stack("DATABASE_URL").parse().expect("DATABASE_URL");
    config
        .dbname(&world.settings["DATABASE_NAME"])
        .user("pulse_app")
        .password(secrets.database_password().expect("a password"));
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}
