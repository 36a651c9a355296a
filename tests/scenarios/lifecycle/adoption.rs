//! Subscriptions that were begun at Stripe without our checkout, and what must not be taken for
//! one.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use simulators::stripe::CheckoutParams;
use tests::company::{Company, START};
use tests::{World, payer, text};

/// One hourly run.
async fn run(world: &World) -> Value {
    let summary = world.renewals.handle(json!({})).await.expect("a run");
    serde_json::to_value(summary).expect("JSON")
}

/// So many hours after the company's checkout, here and at Stripe.
fn at_hour(company: &Company, hours: i64) {
    let start: Timestamp = START.parse().expect("an instant");
    let now = start + SignedDuration::from_hours(hours);
    company.world.clock.stop_at(now);
    company.world.stripe.set_now(now);
}

/// What is ours of a Stripe subscription.
async fn ours(company: &Company, stripe: &str) -> Vec<Value> {
    let sql = format!(
        "SELECT tenant_id, subscription_type, status, plan_id, device_limit, created_by,
         stripe_checkout_session_id AS session
         FROM subscriptions WHERE stripe_subscription_id = '{stripe}'"
    );
    company.world.rows(&sql).await
}

fn starter(session: &Value) -> Value {
    json!({"tenant_id": "acme", "subscription_type": "MAIN", "status": "ACTIVE",
        "plan_id": "starter", "device_limit": 30, "created_by": "stripe", "session": session})
}

/// Trap 94.
#[tokio::test]
async fn one_that_was_begun_at_stripe_is_adopted_after_an_hour_with_what_waited_for_it() {
    let mut company = Company::new().await;
    let begun = company.world.stripe.subscribe(&company.customer, "price_starter_month");
    let stripe = text(&begun.expect("subscribed")["id"]);
    company.deliver().await;
    assert_eq!(ours(&company, &stripe).await, [Value::Null; 0], "its checkout may be on its way");
    assert!(company.world.count("stripe_events WHERE status = 'waiting'").await > 0);
    let drift = run(&company.world).await["drift"].clone();
    assert_eq!((&drift["adopted"], &drift["unknown"]), (&json!(0), &json!(0)), "{drift}");

    at_hour(&company, 2);
    let drift = run(&company.world).await["drift"].clone();
    assert_eq!((&drift["adopted"], &drift["unknown"]), (&json!(1), &json!(0)), "{drift}");
    assert_eq!(ours(&company, &stripe).await, [starter(&Value::Null)]);
    let audit = "SELECT actor_id, details->>'stripe_subscription_id' AS stripe,
                 details->>'stripe_customer_id' AS customer FROM subscription_audit
                 WHERE event_type = 'STRIPE_SUBSCRIPTION_ADOPTED'";
    assert_eq!(
        company.world.row(audit).await,
        json!({"actor_id": "stripe", "stripe": stripe, "customer": company.customer})
    );
    assert_eq!(company.flags().await, ["paid_twice"], "the other MAIN goes on at Stripe");
    company.world.outbox().await;
    assert_eq!(company.world.count("stripe_events WHERE status = 'waiting'").await, 0);
    assert_eq!(run(&company.world).await["drift"]["adopted"], 0, "once");
}

#[tokio::test]
async fn an_event_of_one_that_is_old_enough_adopts_it_at_once() {
    let mut company = Company::new().await;
    let begun = company.world.stripe.subscribe(&company.customer, "price_starter_month");
    let stripe = text(&begun.expect("subscribed")["id"]);
    // Neither its events nor a run came.
    drop(company.new_events());
    company.pass(32).await;
    assert_eq!(ours(&company, &stripe).await, [starter(&Value::Null)]);
    assert_eq!(company.world.count("stripe_events WHERE status = 'waiting'").await, 0);
    let adopted = "subscription_audit WHERE event_type = 'STRIPE_SUBSCRIPTION_ADOPTED'
                   AND stripe_event_id IS NOT NULL";
    assert_eq!(company.world.count(adopted).await, 1);
}

/// Trap 96: a checkout that takes days, or is late, is not provisioned twice.
#[tokio::test]
async fn a_subscription_is_left_to_its_checkout_and_is_its_own_even_if_that_is_late() {
    let mut company = Company::new().await;
    let open = |company: &Company| {
        company
            .world
            .stripe
            .create_checkout(CheckoutParams {
                customer: Some(company.customer.clone()),
                subscription_metadata: [("tenant_id".to_owned(), "acme".to_owned())].into(),
                ..CheckoutParams::subscription("price_starter_month")
            })
            .expect("a checkout")
    };
    // A bank debit: its checkout waits.
    let debit = open(&company);
    let paid = company.world.stripe.pay_async(&debit, payer("jane@acme.example")).expect("paid");
    let stripe = text(&paid["subscription"]);
    company.deliver().await;
    at_hour(&company, 3);
    assert_eq!(run(&company.world).await["drift"]["adopted"], 0);
    assert_eq!(ours(&company, &stripe).await, [Value::Null; 0]);
    company.world.stripe.settle(&debit).expect("settled");
    company.deliver().await;
    assert_eq!(ours(&company, &stripe).await, [starter(&json!(debit))]);

    // A debit whose events are late: nothing says that it waits, and nothing was paid.
    let debit = open(&company);
    let paid = company.world.stripe.pay_async(&debit, payer("jane@acme.example")).expect("paid");
    let stripe = text(&paid["subscription"]);
    drop(company.new_events());
    at_hour(&company, 5);
    let drift = run(&company.world).await["drift"].clone();
    assert_eq!((&drift["adopted"], &drift["unknown"]), (&json!(0), &json!(1)), "{drift}");
    // Its checkout waits, and the word of its payment is lost: the comparison finds it paid.
    assert!(company.hand_over(&[company.world.event("checkout.session.completed")]).await);
    company.world.stripe.settle(&debit).expect("settled");
    drop(company.new_events());
    at_hour(&company, 6);
    assert_eq!(run(&company.world).await["drift"]["adopted"], 1);
    assert_eq!(ours(&company, &stripe).await, [starter(&json!(debit))]);

    // Its event is late: adopted meanwhile, it is the checkout's all the same.
    let late = open(&company);
    let paid = company.world.stripe.pay(&late, payer("jane@acme.example")).expect("paid");
    let stripe = text(&paid["subscription"]);
    let events = company.new_events();
    at_hour(&company, 8);
    assert_eq!(run(&company.world).await["drift"]["adopted"], 1);
    assert_eq!(ours(&company, &stripe).await, [starter(&Value::Null)]);
    assert!(company.hand_over(&events).await);
    assert_eq!(ours(&company, &stripe).await, [starter(&json!(late))]);
    let completed = events.iter().find(|event| event["type"] == "checkout.session.completed");
    assert_eq!(company.world.recorded(completed.expect("completed")).await.0, "applied");
}

#[tokio::test]
async fn what_is_no_tenants_or_pays_no_plans_price_is_never_adopted_by_itself() {
    let mut company = Company::new().await;
    let stripe = &company.world.stripe;
    stripe.subscribe(&company.customer, "price_unmapped").expect("of another business");
    // Of a company that is no tenant here, and of one that was deleted.
    let session = company.world.checkout("price_pro_month", &[]);
    company.world.stripe.pay(&session, payer("x@x.example")).expect("paid");
    let gone = CheckoutParams {
        subscription_metadata: [("tenant_id".to_owned(), "demo-greenhouses".to_owned())].into(),
        ..CheckoutParams::subscription("price_pro_month")
    };
    let session = company.world.stripe.create_checkout(gone).expect("a checkout");
    company.world.stripe.pay(&session, payer("y@y.example")).expect("paid");
    let sql = "UPDATE tenants SET status = 'DELETED' WHERE tenant_id = 'demo-greenhouses'";
    company.world.db.execute(sql, &[]).await.expect("deleted");
    drop(company.new_events());
    at_hour(&company, 2);
    let drift = run(&company.world).await["drift"].clone();
    assert_eq!((&drift["adopted"], &drift["unknown"]), (&json!(0), &json!(2)), "{drift}");
    let flags = "SELECT count(*), count(subject) AS subjects FROM flags
                 WHERE kind = 'stripe_subscription_unknown'
                 AND detail LIKE '%/api/v1/operator/subscriptions/adopt%'";
    assert_eq!(company.world.row(flags).await, json!({"count": 2, "subjects": 2}));
}
