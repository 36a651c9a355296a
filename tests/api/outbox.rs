//! The outbox: once its step is committed, it is done at least once, visibly, and by one worker at
//! a time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use shared::base::ids::{StripeSubscriptionId, SubscriptionId, TenantId};
use simulators::keycloak::User;
use tests::{World, text};

async fn provisioned(world: &World, company: &str, email: &str) {
    let (_, event) = world.paid_checkout(company, email);
    world.receive(&[&event]).await;
}

#[tokio::test]
async fn keycloak_away_leaves_the_tenant_and_a_pending_step_that_is_done_when_it_returns() {
    let mut world = World::new().await;
    let ahead = world.move_outbox_clock();
    provisioned(&world, "Acme", "jane@acme.example").await;
    world.keycloak.stop().await;
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 1, "failed": 0}));
    let step = world
        .row(
            "SELECT status, attempts, last_error,
              next_attempt_at > now() + interval '3 seconds' AS later FROM outbox_steps
              WHERE kind = 'keycloak_user'",
        )
        .await;
    assert_eq!(
        (&step["status"], &step["attempts"], &step["later"]),
        (&json!("pending"), &json!(1), &json!(true))
    );
    assert!(text(&step["last_error"]).starts_with("Keycloak"), "{step}");
    assert!(!text(&step["last_error"]).contains("jane"), "nothing personal in it");
    assert_eq!(
        world.outbox().await,
        json!({"done": 0, "retried": 0, "failed": 0}),
        "not before its time"
    );
    world.keycloak.restart().await.expect("back");
    ahead.store(6, Ordering::SeqCst);
    assert_eq!(world.outbox().await, json!({"done": 2, "retried": 0, "failed": 0}));
    assert_eq!(world.keycloak.users().len(), 1);
}

/// Trap 39: a user that a try left half-made gets what it lacks, and never a twin.
#[tokio::test]
async fn a_lost_answer_at_any_call_makes_no_second_user() {
    let mut world = World::new().await;
    let ahead = world.move_outbox_clock();
    for (number, path) in ["/users", "/role-mappings/realm"].into_iter().enumerate() {
        let email = format!("admin{number}@acme.example");
        provisioned(&world, &format!("Acme {number}"), &email).await;
        // The search before it is a GET of the same path: it passes first.
        world.keycloak.lose_answer_on(path, 502);
        world.keycloak.lose_answer_on(path, 502);
        let mut tries = 0;
        while world
            .keycloak
            .users()
            .iter()
            .filter(|user| user.email.as_deref() == Some(&email) && user.mails_sent > 0)
            .count()
            == 0
        {
            tries += 1;
            assert!(tries < 20);
            world.outbox().await;
            ahead.fetch_add(1000, Ordering::SeqCst);
        }
        assert!(tries > 1, "something was lost");
        let users: Vec<_> = world
            .keycloak
            .users()
            .into_iter()
            .filter(|user| user.email.as_deref() == Some(&email))
            .collect();
        assert_eq!(users.len(), 1, "{path}");
        assert!(
            users[0].roles.contains("customer") && users[0].attributes.contains_key("tenant_id"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_existing_user_gets_what_it_lacks_and_another_tenants_user_is_left_alone() {
    let world = World::new().await;
    let user = |email: &str, tenant: Option<&str>| User {
        username: email.to_owned(),
        email: Some(email.to_owned()),
        enabled: true,
        attributes: tenant
            .map(|tenant| ("tenant_id".to_owned(), vec![tenant.to_owned()]))
            .into_iter()
            .collect(),
        ..User::default()
    };
    let half_made = world.keycloak.add_user(user("half@acme.example", None));
    let theirs = world.keycloak.add_user(user("taken@acme.example", Some("demo-cold-chain")));
    provisioned(&world, "Half", "Half@acme.example").await;
    provisioned(&world, "Taken", "taken@acme.example").await;
    assert_eq!(world.outbox().await, json!({"done": 2, "retried": 0, "failed": 1}));

    let users = world.keycloak.users();
    assert_eq!(users.len(), 2, "none was made");
    let find = |id: &str| users.iter().find(|user| user.id == id).expect("still there");
    assert_eq!(
        (
            find(&half_made).attributes["tenant_id"][0].as_str(),
            find(&half_made).roles.contains("customer"),
            find(&half_made).mails_sent
        ),
        ("half", true, 1)
    );
    assert_eq!(
        (
            find(&theirs).attributes["tenant_id"][0].as_str(),
            find(&theirs).roles.len(),
            find(&theirs).mails_sent
        ),
        ("demo-cold-chain", 0, 0)
    );
    assert_eq!(
        world
            .count("subscription_audit WHERE event_type = 'USER_UPDATED' AND tenant_id = 'half'")
            .await,
        1
    );
    assert_eq!(
        world.row("SELECT kind, tenant_id FROM flags").await,
        json!({"kind": "step_failed", "tenant_id": "taken"})
    );
    let steps = world
        .rows("SELECT kind, status FROM outbox_steps WHERE tenant_id = 'taken' ORDER BY step_id")
        .await;
    assert_eq!(
        steps,
        [
            json!({"kind": "keycloak_user", "status": "failed"}),
            json!({"kind": "welcome_mail", "status": "pending"})
        ],
        "no mail without its user"
    );
}

#[tokio::test]
async fn a_mail_address_that_keycloak_refuses_fails_for_a_person_to_see() {
    let world = World::new().await;
    provisioned(&world, "Acme", "jane@acme.example").await;
    world.keycloak.fail_next_on("/users", 1, 400);
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 0, "failed": 1}));
    assert_eq!(world.count("flags WHERE kind = 'step_failed'").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_workers_at_once_do_each_step_once() {
    let world = World::new().await;
    for number in 0..6 {
        provisioned(&world, &format!("Acme {number}"), &format!("admin{number}@acme.example"))
            .await;
    }
    assert!(join_all((0..8).map(|_| world.provisioning.handle())).await.iter().all(Result::is_ok));
    world.outbox().await;
    let users = world.keycloak.users();
    assert_eq!(users.len(), 6);
    assert!(users.iter().all(|user| user.mails_sent == 1), "no mail twice");
    assert_eq!(world.count("outbox_steps WHERE status = 'done' AND attempts = 1").await, 12);
    assert_eq!(world.count("subscription_audit WHERE actor_id = 'outbox'").await, 12);
}

/// Trap 4: a worker that died gives its step back after the lease; one that only was slow has no
/// say any more.
#[tokio::test]
async fn a_step_whose_worker_died_is_taken_over_and_the_slow_worker_is_not_heard() {
    let mut world = World::new().await;
    let ahead = world.move_outbox_clock();
    provisioned(&world, "Acme", "jane@acme.example").await;
    // A worker that claimed the step and died.
    world
        .db
        .execute(
            "UPDATE outbox_steps SET claim = claim + 1, attempts = 1,
                  claimed_until = now() + interval '120 seconds' WHERE kind = 'keycloak_user'",
            &[],
        )
        .await
        .expect("claimed");
    assert_eq!(world.outbox().await["done"], 0, "its lease stands");
    ahead.store(121, Ordering::SeqCst);
    // Taken over by one that is itself overtaken while Keycloak answers.
    world.keycloak.set_latency(std::time::Duration::from_millis(150));
    let overtake = async {
        while world.count("outbox_steps WHERE kind = 'keycloak_user' AND attempts = 2").await == 0 {
        }
        world
            .db
            .execute("UPDATE outbox_steps SET claim = claim + 1 WHERE kind = 'keycloak_user'", &[])
            .await
            .expect("overtaken");
    };
    let (_, ()) = tokio::join!(world.provisioning.handle(), overtake);
    assert_eq!(
        world.count("subscription_audit WHERE event_type = 'USER_CREATED'").await,
        0,
        "the overtaken worker wrote nothing"
    );
    world.keycloak.set_latency(std::time::Duration::ZERO);
    ahead.store(500, Ordering::SeqCst);
    assert_eq!(world.outbox().await["done"], 2);
    assert_eq!(world.keycloak.users().len(), 1);
}

/// A step is tried for 72 hours, then it waits for a person, who may have it tried again or end it.
#[tokio::test]
async fn a_step_is_given_up_after_72_hours_and_a_person_retries_or_dismisses_it() {
    let mut world = World::new().await;
    let ahead = world.move_outbox_clock();
    for company in ["Retried", "Dismissed"] {
        provisioned(&world, company, &format!("admin@{company}.example")).await;
    }
    world.keycloak.stop().await;
    world.outbox().await;
    ahead.store(71 * 3600, Ordering::SeqCst);
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 2, "failed": 0}));
    ahead.store(72 * 3600, Ordering::SeqCst);
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 0, "failed": 2}));
    assert_eq!(world.count("flags WHERE kind = 'step_failed'").await, 2);

    world.keycloak.restart().await.expect("back");
    ahead.fetch_add(3600, Ordering::SeqCst);
    assert_eq!(
        world.outbox().await,
        json!({"done": 0, "retried": 0, "failed": 0}),
        "a failed step waits for a person"
    );
    let api = world.api().await;
    let act = async |tenant: &str, action: &str, body: Value| {
        let step = world
            .row(&format!(
                "SELECT step_id FROM outbox_steps WHERE tenant_id = '{tenant}'
             AND kind = 'keycloak_user'"
            ))
            .await;
        api.write(
            "POST",
            &format!("/api/v1/operator/provisioning/{}/{action}", step["step_id"]),
            body,
        )
        .await
    };
    act("retried", "retry", json!({"email": "new@retried.example"})).await.expect(200);
    act("dismissed", "dismiss", json!({"note": "came by telephone"})).await.expect(200);
    assert_eq!(world.outbox().await, json!({"done": 2, "retried": 0, "failed": 0}));
    assert_eq!(
        world.keycloak.users().into_iter().map(|user| user.username).collect::<Vec<_>>(),
        ["new@retried.example"]
    );
    assert_eq!(
        world.count("outbox_steps WHERE tenant_id = 'dismissed' AND status = 'dismissed'").await,
        2,
        "and the mail that waited for it"
    );
    for tenant in ["retried", "dismissed"] {
        act(tenant, "retry", json!({})).await.problem(409, "step_final");
        act(tenant, "dismiss", json!({"note": "x"})).await.problem(409, "step_final");
    }
    let audit = world
        .rows(
            "SELECT event_type, tenant_id, previous_state->>'status' AS before
                    FROM subscription_audit WHERE actor_type = 'admin' ORDER BY id",
        )
        .await;
    let row = |event_type: &str, tenant: &str| {
        json!({
            "event_type": event_type, "tenant_id": tenant, "before": "failed",
        })
    };
    assert_eq!(
        audit,
        [row("PROVISIONING_RETRIED", "retried"), row("PROVISIONING_DISMISSED", "dismissed")]
    );
}

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
        let mut db = outbox.applier.db.connection().await.expect("a connection");
        let tx = db.transaction().await.expect("a transaction");
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

fn summary(done: u32, retried: u32, failed: u32) -> Value {
    json!({"done": done, "retried": retried, "failed": failed})
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

/// By a person at the Dashboard, or by a worker that died before it could say so.
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
    let ahead = world.move_outbox_clock();
    let stripe = world.behind("STRIPE_API_BASE").await;
    let wait = || ahead.fetch_add(1000, Ordering::SeqCst);
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
    assert_eq!(world.outbox().await, summary(1, 0, 0));
    assert_eq!(company.at_stripe(), (1, "canceled".to_owned()));
    assert_eq!(
        world.count("subscription_audit WHERE event_type = 'STRIPE_SUBSCRIPTION_CANCELLED'").await,
        3
    );
}

#[tokio::test]
async fn a_stripe_that_is_away_leaves_a_pending_step_that_is_done_when_it_returns() {
    let mut world = World::new().await;
    let ahead = world.move_outbox_clock();
    let acme = Cancelled::new(&world, "acme").await;
    world.stripe.stop().await;
    assert_eq!(world.outbox().await, summary(0, 1, 0));
    let step = acme.step().await;
    assert_eq!((&step["status"], &step["attempts"]), (&json!("pending"), &json!(1)));
    assert!(text(&step["last_error"]).starts_with("Stripe: "), "{step}");
    world.stripe.restart().await.expect("back");
    ahead.store(6, Ordering::SeqCst);
    // Refused, but not known to have ended either: asked again.
    world.stripe.fail_next_on("/v1/subscriptions/", 1, 404);
    world.stripe.fail_next_on("/v1/subscriptions/", 3, 503);
    assert_eq!(world.outbox().await, summary(0, 1, 0));
    ahead.store(60, Ordering::SeqCst);
    assert_eq!(world.outbox().await, summary(1, 0, 0));
    assert_eq!(acme.at_stripe(), (1, "canceled".to_owned()));
}

/// Trap 52: as with a key of another account, to which no subscription of this one exists.
#[tokio::test]
async fn a_404_for_a_subscription_that_has_not_ended_fails_the_step_for_a_person_to_see() {
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

/// A user that belongs to nobody yet, of whom two new companies say that it is their admin: it
/// becomes one's, and the other is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_companies_that_claim_one_user_at_once_one_gets_it() {
    let mut world = World::new().await;
    let ahead = world.move_outbox_clock();
    // Claims take their time, so that two begin before either has committed, and Keycloak takes
    // its, so that they would overlap.
    world
        .db
        .batch_execute(
            "CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM
             pg_sleep(0.3); RETURN NEW; END $$;
             CREATE TRIGGER be_slow BEFORE UPDATE OF claim
             ON outbox_steps FOR EACH ROW EXECUTE FUNCTION be_slow()",
        )
        .await
        .expect("slow");
    world.keycloak.set_latency(Duration::from_millis(50));
    let email = "shared@acme.example";
    let id = world.keycloak.add_user(User {
        username: email.to_owned(),
        email: Some(email.to_owned()),
        enabled: true,
        ..User::default()
    });
    provisioned(&world, "One", email).await;
    provisioned(&world, "Other", "Shared@acme.example").await;
    let steps =
        "SELECT tenant_id, status FROM outbox_steps WHERE kind = 'keycloak_user' ORDER BY status";
    for _ in 0..5 {
        assert!(
            join_all((0..4).map(|_| world.provisioning.handle())).await.iter().all(Result::is_ok)
        );
        let done = world.rows(&format!("SELECT * FROM ({steps}) s WHERE status = 'done'")).await;
        assert!(done.len() <= 1, "{done:?}");
        ahead.fetch_add(20, Ordering::SeqCst);
    }
    let steps = world.rows(steps).await;
    assert_eq!((&steps[0]["status"], &steps[1]["status"]), (&json!("done"), &json!("failed")));
    let user = world.keycloak.users().into_iter().find(|user| user.id == id).expect("still there");
    assert_eq!(
        (user.attributes["tenant_id"][0].as_str(), user.mails_sent),
        (text(&steps[0]["tenant_id"]).as_str(), 1)
    );
    assert_eq!(
        world.row("SELECT kind, tenant_id FROM flags").await,
        json!({"kind": "step_failed", "tenant_id": steps[1]["tenant_id"]})
    );
    assert_eq!(
        world.count("outbox_steps WHERE kind = 'keycloak_user' AND attempts = 1").await,
        2,
        "to give way is no try"
    );
}

/// A step of an address that a worker holds waits for it, and keeps nobody else from being served.
#[tokio::test]
async fn a_held_mail_address_holds_up_no_other() {
    let mut world = World::new().await;
    let ahead = world.move_outbox_clock();
    for (company, email) in [
        ("Held", "jane@acme.example"),
        ("Waits", "Jane@Acme.example"),
        ("Goes on", "joe@acme.example"),
    ] {
        provisioned(&world, company, email).await;
    }
    let until = "now() + interval '120 seconds'";
    let hold = format!(
        "UPDATE outbox_steps SET claim = 1, attempts = 1, claimed_until = {until},
         next_attempt_at = {until} WHERE tenant_id = 'held' AND kind = 'keycloak_user'"
    );
    world.db.execute(&hold, &[]).await.expect("held by a worker that died");
    assert_eq!(world.outbox().await, summary(2, 0, 0));
    assert_eq!(
        world.count("outbox_steps WHERE status = 'done' AND tenant_id = 'goes-on'").await,
        2
    );
    ahead.store(121, Ordering::SeqCst);
    assert_eq!(
        world.outbox().await,
        summary(2, 0, 1),
        "in turn, and the second is told whose it is"
    );
}
