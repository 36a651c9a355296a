//! The step that cancels a subscription at Stripe.

use serde_json::{Value, json};
use shared::base::ids::{StripeSubscriptionId, SubscriptionId, TenantId};
use tests::{World, text};

use super::{provisioned, summary};

/// A company that paid, whose login is made, and the step that ends its subscription at Stripe.
struct Cancelled<'a> {
    world: &'a World,
    tenant: TenantId,
    subscription: SubscriptionId,
    stripe: StripeSubscriptionId,
}

impl<'a> Cancelled<'a> {
    async fn new(world: &'a World, tenant: &str) -> Self {
        provisioned(world, tenant, &format!("jane@{tenant}.example")).await;
        let row = world
            .row(&format!(
                "SELECT subscription_id, stripe_subscription_id FROM subscriptions
             WHERE tenant_id = '{tenant}'"
            ))
            .await;
        assert_eq!(world.outbox().await["done"], 2);
        let this = Self {
            world,
            tenant: TenantId::parse(tenant).expect("an id"),
            subscription: SubscriptionId::parse(&text(&row["subscription_id"])).expect("an id"),
            stripe: StripeSubscriptionId::parse(&text(&row["stripe_subscription_id"]))
                .expect("an id"),
        };
        this.ask(&this.stripe).await;
        this
    }

    /// Leaves the step.
    async fn ask(&self, stripe: &StripeSubscriptionId) {
        let outbox = &self.world.provisioning.outbox;
        let tx = outbox.applier.db.begin().await.expect("a transaction");
        shared::domain::outbox::insert_stripe_cancel(
            &tx,
            &self.tenant,
            &self.subscription,
            stripe,
            outbox.applier.clock.now(),
        )
        .await
        .expect("inserted");
        tx.commit().await.expect("committed");
    }

    async fn step(&self) -> Value {
        let sql = "SELECT status, attempts, result, last_error FROM outbox_steps
                   WHERE kind = 'stripe_cancel' AND tenant_id = ";
        self.world.row(&format!("{sql}'{}'", self.tenant)).await
    }

    /// How often Stripe has ended it, and how it stands there.
    fn at_stripe(&self) -> (usize, String) {
        let ended = |event: &&Value| {
            event["type"] == "customer.subscription.deleted"
                && event["data"]["object"]["id"] == self.stripe.as_str()
        };
        let status = text(
            &self.world.stripe.object(self.stripe.as_str()).expect("a subscription")["status"],
        );
        (self.world.stripe.events().iter().filter(ended).count(), status)
    }

    /// How often Stripe was asked for it.
    fn asked(&self, method: &str) -> usize {
        let path = format!("/v1/subscriptions/{}", self.stripe);
        self.world
            .stripe
            .requests()
            .iter()
            .filter(|request| **request == (method.to_owned(), path.clone()))
            .count()
    }
}

#[tokio::test]
async fn a_cancellation_ends_the_subscription_at_stripe_once_however_often_it_is_asked_for() {
    let world = World::new().await;
    let acme = Cancelled::new(&world, "acme").await;
    acme.ask(&acme.stripe).await;
    assert_eq!(world.outbox().await, summary(1, 0, 0), "the same step");
    assert_eq!(
        acme.step().await,
        json!({"status": "done", "attempts": 1, "result": {"status": "canceled"},
            "last_error": null})
    );
    assert_eq!((acme.at_stripe(), acme.asked("DELETE")), ((1, "canceled".to_owned()), 1));
    let audit = world.row(
        "SELECT tenant_id, subscription_id, actor_type, actor_id
                           FROM subscription_audit WHERE event_type =
                           'STRIPE_SUBSCRIPTION_CANCELLED'",
    );
    assert_eq!(
        audit.await,
        json!({"tenant_id": "acme", "subscription_id": acme.subscription, "actor_type": "system",
        "actor_id": "outbox"})
    );
    acme.ask(&acme.stripe).await;
    assert_eq!(world.outbox().await, summary(0, 0, 0), "done is done");
    assert_eq!(acme.asked("DELETE"), 1);
}

/// By an operator at the Dashboard, or by a worker that died before it could say so.
#[tokio::test]
async fn a_subscription_that_has_ended_already_makes_the_step_done() {
    let world = World::new().await;
    let acme = Cancelled::new(&world, "acme").await;
    let read = acme.asked("GET");
    world.stripe.cancel(acme.stripe.as_str()).expect("ended");
    for times in 1..=2 {
        assert_eq!(world.outbox().await, summary(1, 0, 0));
        assert_eq!(
            (acme.asked("DELETE"), acme.asked("GET") - read),
            (times, times),
            "refused, then read back"
        );
        world
            .db
            .execute(
                "UPDATE outbox_steps SET status = 'pending', next_attempt_at = now()
                          WHERE kind = 'stripe_cancel'",
                &[],
            )
            .await
            .expect("unsaid");
    }
    assert_eq!(acme.at_stripe(), (1, "canceled".to_owned()));
}

/// Trap 22: the write succeeded, its answer was lost; or it never came, which looks the same.
#[tokio::test]
async fn a_cancellation_whose_answer_is_lost_is_made_once_and_found_done() {
    let mut world = World::new().await;
    let stripe = world.behind("STRIPE_API_BASE").await;
    let wait = || world.clock.pass(1000);
    // Lost once: the same run finds it done. Lost at each try of a run: the next one does.
    for (tenant, losses, first) in [("once", 1, summary(1, 0, 0)), ("thrice", 3, summary(0, 1, 0))]
    {
        let company = Cancelled::new(&world, tenant).await;
        for _ in 0..losses {
            world.stripe.lose_answer_on("/v1/subscriptions/", 502);
        }
        assert_eq!(world.outbox().await, first, "{tenant}");
        wait();
        world.outbox().await;
        assert_eq!(
            (company.step().await["status"].clone(), company.at_stripe()),
            (json!("done"), (1, "canceled".to_owned())),
            "{tenant}"
        );
    }
    let company = Cancelled::new(&world, "cut").await;
    stripe.refuse();
    stripe.cut_behind("DELETE");
    assert_eq!(world.outbox().await, summary(0, 1, 0));
    stripe.pass();
    wait();
    assert_eq!(world.outbox().await["retried"], 0);
    assert_eq!(company.at_stripe(), (1, "canceled".to_owned()));
    assert_eq!(
        world.count("subscription_audit WHERE event_type = 'STRIPE_SUBSCRIPTION_CANCELLED'").await,
        3
    );
}

#[tokio::test]
async fn a_stripe_that_is_away_leaves_a_pending_step_that_is_done_when_it_returns() {
    let world = World::new().await;
    let acme = Cancelled::new(&world, "acme").await;
    world.stripe.stop().await;
    assert_eq!(world.outbox().await, summary(0, 1, 0));
    let step = acme.step().await;
    assert_eq!((&step["status"], &step["attempts"]), (&json!("pending"), &json!(1)));
    assert!(text(&step["last_error"]).starts_with("Stripe: "), "{step}");
    world.stripe.restart().await.expect("back");
    world.clock.run_ahead(6);
    // Refused, but not known to have ended either: asked again.
    world.stripe.fail_next_on("/v1/subscriptions/", 1, 404);
    world.stripe.fail_next_on("/v1/subscriptions/", 3, 503);
    assert_eq!(world.outbox().await, summary(0, 1, 0));
    world.clock.run_ahead(60);
    assert_eq!(world.outbox().await["retried"], 0);
    assert_eq!(acme.at_stripe(), (1, "canceled".to_owned()));
}

/// Trap 52: as with a key of another account, to which no subscription of this one exists.
#[tokio::test]
async fn a_404_for_a_subscription_that_has_not_ended_fails_the_step_for_an_operator_to_see() {
    let world = World::new().await;
    let acme = Cancelled::new(&world, "acme").await;
    world.stripe.fail_next_on("/v1/subscriptions/", 1, 404);
    assert_eq!(
        world.outbox().await,
        summary(0, 0, 1),
        "one that is refused, and read back as active"
    );
    assert_eq!(acme.at_stripe(), (0, "active".to_owned()));
    acme.ask(&acme.stripe).await;
    assert_eq!(
        world.outbox().await,
        summary(1, 0, 0),
        "asked for once more, the step that was given up is due again"
    );

    acme.ask(&StripeSubscriptionId::parse("sub_none").expect("an id")).await;
    assert_eq!(world.outbox().await, summary(0, 0, 1), "one that Stripe does not know");
    let step = world
        .row(
            "SELECT status, last_error FROM outbox_steps
                          WHERE dedup_key = 'stripe_cancel:sub_none'",
        )
        .await;
    assert_eq!(step["status"], "failed");
    assert!(
        text(&step["last_error"])
            .starts_with("Stripe: DELETE /subscriptions/sub_none answered 404"),
        "{step}"
    );
    let flags = world.rows("SELECT kind, tenant_id FROM flags").await;
    assert_eq!(flags, vec![json!({"kind": "step_failed", "tenant_id": "acme"}); 2]);
    assert_eq!(
        world.count("subscription_audit WHERE event_type = 'STRIPE_SUBSCRIPTION_CANCELLED'").await,
        1
    );
}
