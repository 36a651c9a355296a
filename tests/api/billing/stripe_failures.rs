//! A Stripe that refuses, fails, hangs, or whose answer is lost.

use std::time::Duration;

use serde_json::{Value, json};
use tests::text;

use super::{
    ACME, BILLING, BOLT, at_stripe, but, checkout, checkout_as, linked, objects, portal, stands,
    wanted, world,
};

#[tokio::test]
async fn what_stripe_refuses_is_reported_without_its_internals() {
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
                 have it linked again.";
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
    // As it is where the portal's settings are not saved.
    world.stripe.fail_next_on("/billing_portal/sessions", 1, 400);
    let closed = portal(&api, BOLT, "https://app.pulse.example/").await;
    closed.problem(409, "stripe_refused");
    for answer in [gone, refused, closed] {
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

#[tokio::test]
async fn a_stripe_that_fails_is_reported_and_leaves_nothing_half_done() {
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
    let api = world.api_with(&world.env(&[("DATABASE_POOL_SIZE", "1")])).await;
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
async fn an_answer_that_was_lost_is_requested_again_and_nothing_is_made_twice() {
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
