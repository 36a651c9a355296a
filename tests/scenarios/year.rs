//! A year of one customer through the functions, from the trial to the end: all that happened, in
//! the words of the audit.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use simulators::stripe::{Card, CheckoutParams, Dunning, GivenUp};
use tests::api::Who;
use tests::shop::{ADDON_CHECKOUT, Shop};
use tests::{World, payer, text};

/// One world, and how many of Stripe's events were delivered to it.
struct Year<'a> {
    world: &'a World,
    seen: usize,
}

impl Year<'_> {
    /// Time passes up to here; what happened meanwhile comes by the webhook and the queue, and the
    /// outbox does its part.
    async fn come_to(&mut self, to: Timestamp) {
        self.world.clock.stop_at(to);
        self.world.stripe.advance_to(to);
        self.hear().await;
    }

    async fn hear(&mut self) {
        let news = tests::new_events(&self.world.stripe, &mut self.seen);
        self.world.receive(&news.iter().collect::<Vec<_>>()).await;
        assert_eq!(self.world.outbox().await["failed"], 0);
    }

    async fn status(&self, of: &str) -> Value {
        self.world
            .row(&format!(
                "SELECT status, term_end FROM subscriptions WHERE subscription_id = '{of}'"
            ))
            .await
    }
}

#[tokio::test]
async fn a_year_from_the_trial_to_the_end() {
    // The story begins two months before today, and goes on into the future.
    let shop = Shop::new().await;
    let today = Timestamp::from_second(shop.world.clock.now().as_second()).expect("an instant");
    let began = today - SignedDuration::from_hours(24 * 60);
    shop.world.clock.stop_at(began);
    shop.world.stripe.set_now(began);
    shop.world.stripe.set_dunning(Dunning { retry_days: vec![3, 5, 7], then: GivenUp::Canceled });
    let world = &shop.world;
    let mut year = Year { world, seen: 0 };

    let metadata =
        [("company_name", "Year"), ("plan_id", "pro"), ("admin_email", "jane@year.example")];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let trial = CheckoutParams {
        metadata,
        trial_period_days: Some(14),
        ..CheckoutParams::subscription("price_pro_month")
    };
    let paid = world
        .stripe
        .pay(&world.stripe.create_checkout(trial).expect("a checkout"), payer("jane@year.example"))
        .expect("paid");
    let (customer, stripe) = (text(&paid["customer"]), text(&paid["subscription"]));
    year.hear().await;
    let main = "SELECT subscription_id FROM subscriptions WHERE tenant_id = 'year'";
    let main = text(&world.row(main).await["subscription_id"]);
    assert_eq!(year.status(&main).await["status"], "TRIAL");
    year.come_to(began + SignedDuration::from_hours(24 * 15)).await;
    assert_eq!(year.status(&main).await["status"], "ACTIVE");

    // Five more slots, today: at the price shown, and charged.
    year.come_to(today).await;
    let order = shop
        .api
        .send(
            Who::Customer("year"),
            "POST",
            ADDON_CHECKOUT,
            &[],
            Some(Shop::wanted(&main, &[(2, 5)])),
        )
        .await
        .expect(200);
    let session =
        world.stripe.pay(&text(&order["session_id"]), payer("jane@year.example")).expect("paid");
    assert_eq!(session["amount_total"], order["amount_cents"]);
    year.hear().await;
    let addon = text(
        &world
            .row(
                "SELECT subscription_id FROM subscriptions
                                 WHERE parent_subscription_id IS NOT NULL",
            )
            .await["subscription_id"],
    );

    // Each renewal charges both, on one invoice, and moves both.
    let period_end = || -> Timestamp {
        let item = &world.stripe.object(&stripe).expect("it")["items"]["data"][0];
        Timestamp::from_second(item["current_period_end"].as_i64().expect("an end"))
            .expect("an instant")
    };
    let hour = SignedDuration::from_hours(1);
    year.come_to(period_end() + hour).await;
    assert_eq!(year.status(&main).await, year.status(&addon).await);
    let invoice = world
        .stripe
        .object(&text(&world.stripe.object(&stripe).expect("it")["latest_invoice"]))
        .expect("an invoice");
    assert_eq!(
        (&invoice["amount_paid"], invoice["lines"]["data"].as_array().map(Vec::len)),
        (&json!(29_900 + 5 * 300), Some(2))
    );

    // A declined card, grace, and its recovery.
    world.stripe.set_card(&customer, Card::Declines);
    let unpaid = period_end();
    year.come_to(unpaid + hour).await;
    let grace = world
        .row(&format!(
            "SELECT status, grace_end = '{unpaid}'::timestamptz + interval '14 days' AS fortnight
             FROM subscriptions WHERE subscription_id = '{main}'"
        ))
        .await;
    assert_eq!(grace, json!({"status": "GRACE", "fortnight": true}));
    world.stripe.set_card(&customer, Card::Works);
    year.come_to(unpaid + SignedDuration::from_hours(24 * 4)).await;
    assert_eq!(year.status(&main).await["status"], "ACTIVE", "the card worked at the next try");

    for _ in 0..8 {
        year.come_to(period_end() + hour).await;
    }
    world.stripe.cancel_at_period_end(&stripe, true).expect("cancelled");
    year.hear().await;
    assert_eq!(year.status(&main).await["status"], "ACTIVE");
    year.come_to(period_end() + hour).await;
    for of in [&main, &addon] {
        assert_eq!(year.status(of).await["status"], "EXPIRED");
    }

    let names = |id: &Value| {
        if *id == json!(main) {
            " MAIN"
        } else if *id == json!(addon) {
            " ADDON"
        } else {
            ""
        }
    };
    let rows = world
        .rows(
            "SELECT event_type, subscription_id FROM subscription_audit
                           WHERE tenant_id = 'year' ORDER BY id",
        )
        .await;
    let happened: Vec<String> = rows
        .iter()
        .map(|row| format!("{}{}", text(&row["event_type"]), names(&row["subscription_id"])))
        .collect();
    let renewal = ["STRIPE_INVOICE_PAID MAIN", "STRIPE_INVOICE_PAID ADDON"];
    let expected = [
        &[
            "TENANT_PROVISIONED",
            "STRIPE_CHECKOUT_COMPLETED MAIN",
            "TIER_ALLOCATIONS_SYNCED MAIN",
            "USER_CREATED",
            "WELCOME_EMAIL_SENT",
        ][..],
        // The trial's end, and the renewal before today.
        &["STRIPE_INVOICE_PAID MAIN", "KEYCLOAK_ORGANIZATION_SET", "STRIPE_INVOICE_PAID MAIN"],
        &[
            "ADDON_ORDERED MAIN",
            "STRIPE_CHECKOUT_COMPLETED ADDON",
            "TIER_ALLOCATIONS_SYNCED ADDON",
            "ADDON_ORDER_PAID ADDON",
            "STRIPE_ADDON_QUANTITY_SET MAIN",
        ],
        &renewal,
        &["STRIPE_PAYMENT_FAILED MAIN"],
        &renewal,
        &renewal.repeat(8),
        &[
            "STRIPE_SUBSCRIPTION_UPDATED MAIN",
            "STRIPE_SUBSCRIPTION_DELETED MAIN",
            "STRIPE_SUBSCRIPTION_DELETED ADDON",
        ],
    ]
    .concat();
    assert_eq!(happened, expected);
    assert_eq!(
        world.keycloak.users().iter().map(|user| user.mails_sent).collect::<Vec<_>>(),
        [1],
        "one mail: the welcome"
    );
    assert_eq!(world.rows("SELECT kind FROM flags").await, [] as [Value; 0]);
    assert_eq!(
        world.rows("SELECT DISTINCT status FROM stripe_events").await,
        [json!({"status": "applied"}), json!({"status": "ignored"})]
    );
}
