//! The route that opens a checkout of a plan, and what the checkout becomes.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tests::api::{Api, Reply};
use tests::{World, payer, text};

use super::{
    ACME, BILLING, BOLT, at_stripe, but, checkout, checkout_as, linked, objects, portal, stands,
    wanted, world,
};

/// As a client does that hears that the first request still runs.
async fn patiently(api: &Api, key: &str, body: Value) -> Reply {
    loop {
        let reply = checkout_as(api, key, body.clone()).await;
        if reply.body["code"] != "request_in_progress" {
            return reply;
        }
        assert_eq!((reply.status, reply.header("retry-after")), (409, "1"));
    }
}

async fn audit(world: &World) -> Vec<Value> {
    world
        .rows(
            "SELECT event_type, actor_type, tenant_id, previous_state, new_state
                FROM subscription_audit ORDER BY id",
        )
        .await
}

/// From the button to the subscription: the page is paid, Stripe's event is applied, and the page
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
        "{paid} is paid already. Change it in the billing portal, or set `additional` to \
         buy another one."
    );
    assert_eq!(again.problem(409, "already_subscribed"), words);
    checkout(&api, BOLT, wanted()).await.expect(200);
    checkout(&api, ACME, but(&json!({"additional": true}))).await.expect(200);
    world
        .db
        .execute("UPDATE subscriptions SET status = 'EXPIRED' WHERE subscription_id = $1", &[&paid])
        .await
        .expect("over");
    // Over here, and Stripe goes on charging for it, or will as soon as it can.
    for (status, words) in [
        ("past_due", "has an unpaid invoice, and Stripe goes on charging for it. Pay it in"),
        ("unpaid", "has an unpaid invoice, and Stripe goes on charging for it. Pay it in"),
        ("paused", "is paused at Stripe. Resume it instead of buying another one"),
    ] {
        let sql = "UPDATE subscriptions SET stripe_status = $1 WHERE subscription_id = $2";
        world.db.execute(sql, &[&status, &paid]).await.expect("a status");
        let refused = checkout(&api, ACME, wanted()).await.problem(409, "already_subscribed");
        assert!(refused.starts_with(&format!("{paid} {words}")), "{refused}");
        checkout(&api, ACME, but(&json!({"additional": true}))).await.expect(200);
    }
    let sql = "UPDATE subscriptions SET stripe_status = 'canceled' WHERE subscription_id = $1";
    world.db.execute(sql, &[&paid]).await.expect("over at Stripe");
    checkout(&api, ACME, wanted()).await.expect(200);
    assert_eq!(at_stripe(&world, "customers").await.len(), 2, "one a tenant");
}

/// Each of them, in each of the fields; and nothing is asked of Stripe for it.
#[tokio::test]
async fn no_one_is_sent_to_an_origin_that_is_not_ours() {
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
    // Stripe's event links it at the same moment: the one that is linked is used.
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
    assert_eq!(status(&settled).await, "pending", "its event is under way");
    world.receive(&[&world.event("checkout.session.async_payment_succeeded")]).await;
    assert_eq!(status(&settled).await, "provisioned");
}
