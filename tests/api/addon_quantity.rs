//! The outbox step by which Stripe renews what a family's ADDONs have, and what is left where one
//! ends.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use serde_json::{Value, json};
use simulators::stripe::{Interval, Price};
use tests::api::Who;
use tests::shop::Shop;
use tests::text;

const ACME: Who<'static> = Who::Customer("acme");
const DEVICES: &str = "/api/v1/customer/devices";
const OPERATOR: &str = "/api/v1/operator/subscriptions";

fn standard(slots: i64) -> Vec<(String, i64)> {
    vec![("price_standard_slot_month".to_owned(), slots)]
}

/// Writes to Stripe's items so far.
fn writes(shop: &Shop) -> usize {
    shop.world
        .stripe
        .requests()
        .iter()
        .filter(|(method, path)| method != "GET" && path.contains("subscription_items"))
        .count()
}

async fn step(shop: &Shop) -> Value {
    shop.world
        .row(
            "SELECT status, result, attempts FROM outbox_steps
                    WHERE kind = 'stripe_addon_quantity'",
        )
        .await
}

#[tokio::test]
async fn the_quantity_at_stripe_follows_the_addons_that_live() {
    let shop = Shop::new().await;
    let (parent, stripe) = shop.paid_main("acme", "month").await;
    let first = shop.buy(&parent, &[(2, 4)]).await;
    shop.world.outbox().await;
    assert_eq!(shop.items(&stripe), standard(4), "added");
    let second = shop.buy(&parent, &[(2, 3)]).await;
    shop.world.outbox().await;
    assert_eq!(shop.items(&stripe), standard(7), "changed");
    let invoices = |shop: &Shop| {
        shop.world.stripe.events().iter().filter(|event| event["type"] == "invoice.created").count()
    };
    assert_eq!(
        invoices(&shop),
        0,
        "nothing is charged for the present period but the slots' own payment"
    );
    shop.api
        .write("PATCH", &format!("{OPERATOR}/{first}"), json!({"status": "SUSPENDED"}))
        .await
        .expect(200);
    shop.world.outbox().await;
    assert_eq!(shop.items(&stripe), standard(3), "what is suspended is not renewed");
    shop.api
        .write("PATCH", &format!("{OPERATOR}/{first}"), json!({"status": "ACTIVE"}))
        .await
        .expect(200);
    shop.world.outbox().await;
    assert_eq!(shop.items(&stripe), standard(7));
    shop.api.write("DELETE", &format!("{OPERATOR}/{first}"), json!({})).await.expect(200);
    shop.world.outbox().await;
    assert_eq!(shop.items(&stripe), standard(3));
    // An operator who takes slots away has fewer renewed; who gives more does not have the customer
    // charged for what no one ordered.
    let allocation = format!("{OPERATOR}/{second}/tier-allocations/2");
    for (slots, charged) in [(1, 1), (50, 3)] {
        shop.api.write("PUT", &allocation, json!({"slot_limit": slots})).await.expect(200);
        shop.world.outbox().await;
        assert_eq!(shop.items(&stripe), standard(charged));
    }
    shop.api
        .write("PATCH", &format!("{OPERATOR}/{second}"), json!({"status": "EXPIRED"}))
        .await
        .expect(200);
    shop.world.outbox().await;
    assert_eq!(shop.items(&stripe), [], "removed");
    let by_hand = json!({"tenant_id": "acme", "subscription_type": "ADDON", "device_limit": 9,
    "parent_subscription_id": parent});
    let by_hand =
        text(&shop.api.write("POST", OPERATOR, by_hand).await.expect(201)["subscription_id"]);
    shop.api
        .write(
            "POST",
            &format!("{OPERATOR}/{by_hand}/tier-allocations"),
            json!({"tier_id": 2, "slot_limit": 9}),
        )
        .await
        .expect(201);
    shop.world.outbox().await;
    assert_eq!(shop.items(&stripe), [], "what an operator gave is not charged");
    let audited =
        shop.world.count("subscription_audit WHERE event_type = 'STRIPE_ADDON_QUANTITY_SET'").await;
    assert_eq!((audited, shop.world.count("flags").await), (8, 0), "one row a change at Stripe");
}

/// Trap 41: cancelled at its end, the parent takes the slots along uncharged; resumed, it renews
/// them. A renewal charges both on one invoice.
/// The step's own key is longer than Stripe takes then.
#[tokio::test]
async fn slots_of_a_price_with_the_longest_id_reach_stripe() {
    let shop = Shop::new().await;
    let long = format!("price_{}", "x".repeat(249));
    let price = shop.world.stripe.object("price_standard_slot_month").expect("the price");
    shop.world.stripe.add_price(Price {
        id: long.clone(),
        product: text(&price["product"]),
        currency: "usd".to_owned(),
        unit_amount: 300,
        interval: Interval::Month,
        nickname: "a long id".to_owned(),
    });
    let sql = "UPDATE stripe_prices SET stripe_price_id = $1
               WHERE stripe_price_id = 'price_standard_slot_month'";
    assert_eq!(shop.world.db.execute(sql, &[&long]).await.expect("mapped"), 1);
    let (parent, stripe) = shop.paid_main("acme", "month").await;
    shop.buy(&parent, &[(2, 4)]).await;
    assert_eq!(shop.world.outbox().await["done"], 1);
    assert_eq!(shop.items(&stripe), [(long, 4)]);
}

#[tokio::test]
async fn slots_renew_at_full_price_with_their_parent_and_not_without_it() {
    let shop = Shop::new().await;
    let (parent, stripe) = shop.paid_main("acme", "month").await;
    shop.world.stripe.edit_subscription(&stripe, |subscription| {
        subscription["cancel_at_period_end"] = json!(true);
    });
    shop.buy(&parent, &[(2, 4)]).await;
    shop.world.outbox().await;
    assert_eq!(shop.items(&stripe), standard(4), "should it be resumed, Stripe renews both");
    shop.world.stripe.edit_subscription(&stripe, |subscription| {
        subscription["cancel_at_period_end"] = json!(false);
    });
    let subscription = shop.world.stripe.object(&stripe).expect("a subscription");
    let ends = subscription["items"]["data"][0]["current_period_end"].as_i64().expect("a time");
    // Renewed, and its invoice paid an hour later.
    shop.world
        .stripe
        .advance_to(jiff::Timestamp::from_second(ends + 2 * 60 * 60).expect("an instant"));
    let renewed = shop
        .world
        .stripe
        .events()
        .into_iter()
        .rev()
        .find(|event| event["type"] == "invoice.paid")
        .expect("an invoice");
    assert_eq!(renewed["data"]["object"]["amount_paid"], 29_900 + 4 * 300, "{renewed}");
}

/// Trap 43: with its first answer lost, and repeated two days later, when Stripe has forgotten the
/// key.
#[tokio::test]
async fn a_lost_answer_and_a_late_repetition_are_one_quantity() {
    let shop = Shop::new().await;
    let (parent, stripe) = shop.paid_main("acme", "month").await;
    shop.world.outbox().await;
    let addon = shop.buy(&parent, &[(2, 4)]).await;
    let lose = async |what: &str, expected: Vec<(String, i64)>| {
        shop.world.stripe.lose_answer_on("subscription_items", 502);
        shop.world.stripe.fail_next_on("subscription_items", 2, 503);
        assert_eq!(
            shop.world.outbox().await,
            json!({"done": 0, "retried": 1, "failed": 0}),
            "{what}"
        );
        assert_eq!(shop.items(&stripe), expected, "{what}: done, and not heard of");
        let before = writes(&shop);
        shop.world.clock.pass(48 * 60 * 60);
        assert_eq!(
            shop.world.outbox().await,
            json!({"done": 1, "retried": 0, "failed": 0}),
            "{what}"
        );
        assert_eq!(
            (shop.items(&stripe), writes(&shop)),
            (expected, before),
            "{what}: read, compared, and left"
        );
        // Orders are placed at Stripe's time.
        shop.world.clock.run_ahead(0);
    };
    lose("added", standard(4)).await;
    shop.buy(&parent, &[(2, 1)]).await;
    lose("changed", standard(5)).await;
    shop.world
        .db
        .execute(
            "UPDATE subscription_tier_allocations SET slot_limit = 0
                           WHERE subscription_id <> $1 AND tier_id = 2",
            &[&addon],
        )
        .await
        .expect("set");
    shop.api.write("DELETE", &format!("{OPERATOR}/{addon}"), json!({})).await.expect(200);
    lose("removed", Vec::new()).await;
    assert_eq!(step(&shop).await["status"], "done");
    // A tier that was removed can be added again: no key of before answers for it.
    shop.buy(&parent, &[(2, 2)]).await;
    shop.world.outbox().await;
    assert_eq!(shop.items(&stripe), standard(2));
}

/// What changes while a worker is at the step is not lost, and no two workers set quantities at
/// once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_while_the_step_runs_leaves_it_due_again() {
    let shop = Shop::new().await;
    let (parent, stripe) = shop.paid_main("acme", "month").await;
    shop.world.outbox().await;
    let session = shop.open(&parent, &[(2, 3)]).await;
    let event = shop.pay(&session);
    shop.buy(&parent, &[(2, 4)]).await;
    shop.world.stripe.set_latency(std::time::Duration::from_millis(1_500));
    let meanwhile = async {
        let claimed =
            "outbox_steps WHERE kind = 'stripe_addon_quantity' AND claimed_until IS NOT NULL";
        while shop.world.count(claimed).await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(shop.world.apply(&event).await);
        assert_eq!(
            shop.world.outbox().await,
            json!({"done": 0, "retried": 0, "failed": 0}),
            "the first one's claim holds"
        );
    };
    let (summary, ()) = tokio::join!(shop.world.outbox(), meanwhile);
    shop.world.stripe.set_latency(std::time::Duration::ZERO);
    assert_eq!(
        (shop.items(&stripe).len(), &step(&shop).await["status"]),
        (1, &json!("pending")),
        "{summary}"
    );
    shop.world.clock.pass(121);
    shop.world.outbox().await;
    assert_eq!(
        (shop.items(&stripe), step(&shop).await["status"].clone()),
        (standard(7), json!("done"))
    );
}

#[tokio::test]
async fn what_stripe_has_ended_or_cannot_charge_is_left_or_flagged() {
    let shop = Shop::new().await;
    let (parent, stripe) = shop.paid_main("acme", "month").await;
    shop.world.outbox().await;
    let session = shop.open(&parent, &[(3, 4)]).await;
    let event = shop.pay(&session);
    shop.api
        .write("PUT", "/api/v1/operator/device-tiers/3", json!({"addon_stripe_price_id": null}))
        .await
        .expect(200);
    shop.world.receive(&[&event]).await;
    assert_eq!(shop.world.outbox().await, json!({"done": 0, "retried": 0, "failed": 1}));
    let failed = shop
        .world
        .row("SELECT last_error FROM outbox_steps WHERE kind = 'stripe_addon_quantity'")
        .await;
    assert_eq!(failed["last_error"], "slots of tier 3 have no Stripe price in USD to renew by");
    assert_eq!(
        shop.world.row("SELECT kind, tenant_id FROM flags").await,
        json!({"kind": "step_failed", "tenant_id": "acme"})
    );
    shop.world.stripe.cancel(&stripe).expect("cancelled");
    shop.buy(&parent, &[(2, 1)]).await;
    assert_eq!(
        shop.world.outbox().await,
        json!({"done": 1, "retried": 0, "failed": 0}),
        "due again by a new cause"
    );
    assert_eq!((writes(&shop), step(&shop).await["result"].clone()), (0, json!({"items": []})));
}

/// The slots are gone with their ADDON; what is used stays used, and nothing new is given.
#[tokio::test]
async fn an_addon_that_ended_takes_its_slots_along_and_leaves_the_devices() {
    let shop = Shop::new().await;
    let (parent, stripe) = shop.paid_main("acme", "month").await;
    let addon = shop.buy(&parent, &[(3, 2)]).await;
    for n in 0..13 {
        shop.api
            .send(ACME, "POST", DEVICES, &[], Some(json!({"device_id": format!("D-{n}")})))
            .await
            .expect(201);
    }
    for n in 0..12 {
        shop.api
            .send(ACME, "PUT", &format!("{DEVICES}/D-{n}/tier"), &[], Some(json!({"tier_id": 3})))
            .await
            .expect(200);
    }
    let full = shop
        .api
        .send(ACME, "PUT", &format!("{DEVICES}/D-12/tier"), &[], Some(json!({"tier_id": 3})))
        .await;
    assert_eq!(
        full.problem(402, "no_free_slot"),
        "No available Premium slots. Used: 12/12. Upgrade your plan or reassign another device."
    );
    shop.api.write("DELETE", &format!("{OPERATOR}/{addon}"), json!({})).await.expect(200);
    let over = shop
        .api
        .send(ACME, "PUT", &format!("{DEVICES}/D-12/tier"), &[], Some(json!({"tier_id": 3})))
        .await;
    assert_eq!(
        over.problem(402, "no_free_slot"),
        "No available Premium slots. Used: 12/10. Upgrade your plan or reassign another device."
    );
    assert_eq!((&over.body["limit"], &over.body["used"]), (&json!(10), &json!(12)));
    assert_eq!(shop.world.count("devices WHERE tier_id = 3").await, 12);
    shop.world.outbox().await;
    assert_eq!(shop.items(&stripe), []);
}

/// Trap 48: whoever comes first, nothing is given once the ADDON has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_addon_that_ends_while_64_assign_gives_nothing_after_its_end() {
    let shop = Shop::new().await;
    let (parent, _) = shop.paid_main("acme", "month").await;
    let addon = shop.buy(&parent, &[(3, 40)]).await;
    for n in 0..64 {
        shop.api
            .send(ACME, "POST", DEVICES, &[], Some(json!({"device_id": format!("D-{n}")})))
            .await
            .expect(201);
    }
    let ended = AtomicBool::new(false);
    let assign = async |n: i32| {
        let after_end = ended.load(Ordering::SeqCst);
        let reply = shop
            .api
            .send(ACME, "PUT", &format!("{DEVICES}/D-{n}/tier"), &[], Some(json!({"tier_id": 3})))
            .await;
        (after_end, reply)
    };
    let end = async {
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        shop.api.write("DELETE", &format!("{OPERATOR}/{addon}"), json!({})).await.expect(200);
        ended.store(true, Ordering::SeqCst);
    };
    let (replies, ()) = tokio::join!(join_all((0..64).map(assign)), end);
    let given = replies.iter().filter(|(_, reply)| reply.status == 200).count();
    assert!(
        replies
            .iter()
            .all(|(_, reply)| reply.status == 200 || reply.body["code"] == "no_free_slot"),
        "{replies:?}"
    );
    assert!((10..=50).contains(&given), "{given}");
    let used = shop
        .world
        .row(&format!(
        "SELECT slots_used FROM subscription_tier_allocations WHERE subscription_id = '{parent}'
         AND tier_id = 3"))
        .await;
    assert_eq!(
        (used["slots_used"].as_u64(), shop.world.count("devices WHERE tier_id = 3").await),
        (u64::try_from(given).ok(), i64::try_from(given).expect("small"))
    );
    if given >= 10 {
        let (_, late) = assign(0).await;
        assert!(late.status == 200 || late.body["limit"] == 10, "{}", late.body);
    }
    // With the ADDON over, the plan's own ten are the limit for who comes after.
    let waiting =
        replies.iter().position(|(_, reply)| reply.status != 200).expect("one without a slot");
    let (after_end, refused) = assign(i32::try_from(waiting).expect("small")).await;
    assert!(after_end && refused.status == 402, "{}", refused.body);
    assert_eq!(
        (&refused.body["limit"], refused.body["used"].as_u64()),
        (&json!(10), u64::try_from(given).ok())
    );
}
