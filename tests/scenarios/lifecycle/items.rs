//! Slots that are items beside a MAIN's plan at Stripe.

use serde_json::{Value, json};
use simulators::stripe::{CheckoutParams, Interval, Price};
use tests::api::Who;
use tests::company::Company;
use tests::shop::{ADDON_CHECKOUT, Shop};
use tests::{payer, text};

const BASIC: &str = "price_basic_slot_month";
const STANDARD: &str = "price_standard_slot_month";

/// Slots of the ADDONs that give any, the first one first.
async fn addons(company: &Company) -> Vec<Value> {
    company
        .world
        .rows(
            "SELECT s.device_limit AS devices,
                    (SELECT jsonb_object_agg(tier_id, slot_limit)
                     FROM subscription_tier_allocations a
                     WHERE a.subscription_id = s.subscription_id AND slot_limit > 0) AS slots
             FROM subscriptions s WHERE subscription_type = 'ADDON' AND status = 'ACTIVE'
             ORDER BY created_at, subscription_id",
        )
        .await
}

fn addon(tier: &str, slots: i64) -> Value {
    json!({"devices": slots, "slots": {tier: slots}})
}

/// What Stripe charges for standard slots.
fn charged(company: &Company) -> i64 {
    let subscription = company.world.stripe.object(&company.stripe).expect("a subscription");
    let items = subscription["items"]["data"].as_array().expect("items");
    let slots = items.iter().find(|item| item["price"]["id"] == STANDARD);
    slots.map_or(0, |item| item["quantity"].as_i64().expect("a quantity"))
}

/// Orders standard slots, and pays for them.
async fn buy(company: &mut Company, slots: i32) {
    let api = company.world.api().await;
    let wanted = Shop::wanted(&company.id, &[(2, slots)]);
    let ordered = api.send(Who::Customer("acme"), "POST", ADDON_CHECKOUT, &[], Some(wanted)).await;
    let session = text(&ordered.expect(200)["session_id"]);
    company.world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
    company.deliver().await;
}

/// Has the outbox run, and delivers what follows from it.
async fn outbox(company: &mut Company) {
    company.world.outbox().await;
    company.deliver().await;
}

async fn set(company: &mut Company, price: &str, quantity: Option<u64>) {
    company.world.stripe.set_quantity(&company.stripe, price, quantity).expect("changed");
    company.deliver().await;
}

/// Trap 63.
#[tokio::test]
async fn slots_in_the_cart_of_the_plan_are_given_with_it_and_end_when_it_does() {
    let params = CheckoutParams {
        also: vec![(BASIC.to_owned(), 5)],
        ..CheckoutParams::subscription("price_starter_month")
    };
    let mut company = Company::with(params).await;
    assert_eq!(addons(&company).await, [addon("1", 5)]);
    assert_eq!(
        company.row("device_limit, plan_id").await,
        json!({"device_limit": 30, "plan_id": "starter"})
    );
    let api = company.world.api().await;
    let all = api.get(Who::Customer("acme"), "/api/v1/customer/entitlements").await.expect(200);
    assert_eq!((&all["devices"]["limit"], &all["tiers"][0]["limit"]), (&json!(35), &json!(30)));
    let made = "SELECT created_by, parent_subscription_id, term_end::text AS ends
                FROM subscriptions WHERE subscription_type = 'ADDON'";
    let parent = company.id.clone();
    assert_eq!(
        company.world.row(made).await,
        json!({"created_by": "stripe", "parent_subscription_id": parent,
            "ends": "2026-02-28 10:00:00+00"})
    );
    company.pass(28).await;
    assert_eq!(company.world.row(made).await["ends"], "2026-03-31 10:00:00+00");
    company.world.stripe.cancel(&company.stripe).expect("cancelled");
    company.deliver().await;
    assert_eq!((addons(&company).await, company.flags().await), (vec![], vec![]));
}

/// Trap 63: one ADDON follows, and the plan's own slots stay.
#[tokio::test]
async fn items_that_are_changed_at_stripe_are_given_at_once_and_gone_with_them() {
    let mut company = Company::new().await;
    for (price, quantity, expected) in [
        (STANDARD, Some(7), vec![json!({"devices": 7, "slots": {"2": 7}})]),
        (BASIC, Some(2), vec![json!({"devices": 9, "slots": {"1": 2, "2": 7}})]),
        (STANDARD, Some(3), vec![json!({"devices": 5, "slots": {"1": 2, "2": 3}})]),
        (STANDARD, None, vec![json!({"devices": 2, "slots": {"1": 2}})]),
        (BASIC, None, vec![]),
        (BASIC, Some(4), vec![json!({"devices": 4, "slots": {"1": 4}})]),
    ] {
        set(&mut company, price, quantity).await;
        assert_eq!(addons(&company).await, expected, "{price} {quantity:?}");
    }
    let all = "SELECT subscription_id, created_by, status, stripe_checkout_session_id AS session
               FROM subscriptions WHERE subscription_type = 'ADDON'";
    let made = company.world.rows(all).await;
    assert_eq!(made.len(), 1, "one ADDON for all of it: {made:?}");
    assert_eq!(company.slots().await, json!({"1": 200, "2": 50, "3": 10}));
    assert_eq!(company.flags().await, Vec::<String>::new());
    company.world.outbox().await;
    let stripe = company.world.stripe.object(&company.stripe).expect("a subscription");
    assert_eq!(stripe["items"]["data"][1]["quantity"], 4, "no step charges for it, or less");
}

/// Trap 64: whenever Stripe is read, what our step sets is no purchase, and what was bought at
/// Stripe is neither lowered nor doubled by it.
#[tokio::test]
async fn what_our_step_sets_gives_no_slot_and_leaves_what_was_bought_at_stripe() {
    let mut company = Company::new().await;
    buy(&mut company, 3).await;
    set(&mut company, BASIC, Some(1)).await;
    let basic = addon("1", 1);
    assert_eq!(addons(&company).await, [addon("2", 3), basic.clone()], "before the step");
    outbox(&mut company).await;
    assert_eq!((charged(&company), addons(&company).await), (3, vec![addon("2", 3), basic]));

    set(&mut company, STANDARD, Some(8)).await;
    let extra = json!({"devices": 6, "slots": {"1": 1, "2": 5}});
    assert_eq!(addons(&company).await, [addon("2", 3), extra.clone()], "bought at Stripe");
    outbox(&mut company).await;
    assert_eq!(charged(&company), 8);
    buy(&mut company, 2).await;
    assert_eq!(addons(&company).await[1], extra, "paid, and not at Stripe yet");
    // Stripe has it, and the step does not hear so. What it set is read before it runs again.
    company.world.stripe.lose_answer_on("subscription_items", 502);
    company.world.stripe.fail_next_on("subscription_items", 2, 503);
    outbox(&mut company).await;
    assert_eq!((charged(&company), &addons(&company).await[1]), (10, &extra), "not heard of");
    company.world.clock.pass(60);
    outbox(&mut company).await;
    assert_eq!((charged(&company), &addons(&company).await[1]), (10, &extra), "repeated");
    let first = company
        .world
        .row("SELECT subscription_id AS id FROM addon_orders ORDER BY created_at LIMIT 1")
        .await;
    let api = company.world.api().await;
    let path = format!("/api/v1/operator/subscriptions/{}", text(&first["id"]));
    api.write("DELETE", &path, json!({})).await.expect(200);
    set(&mut company, BASIC, Some(2)).await;
    let extra = json!({"devices": 7, "slots": {"1": 2, "2": 5}});
    assert_eq!(addons(&company).await, [extra.clone(), addon("2", 2)], "ended, and still charged");
    outbox(&mut company).await;
    assert_eq!((charged(&company), addons(&company).await), (7, vec![extra, addon("2", 2)]));
    assert_eq!(company.flags().await, Vec::<String>::new());
}

/// Trap 65.
#[tokio::test]
async fn ordered_slots_that_stripe_has_no_more_stay_until_the_paid_term_ends() {
    for (left, kept) in [(Some(2), vec![addon("2", 2)]), (None, vec![])] {
        let mut company = Company::new().await;
        buy(&mut company, 5).await;
        outbox(&mut company).await;
        set(&mut company, STANDARD, left).await;
        assert_eq!(addons(&company).await, [addon("2", 5)], "paid until then");
        assert_eq!(company.flags().await, ["slots_reduced_at_stripe"]);
        let charged_then = i64::try_from(left.unwrap_or(0)).expect("few");
        let api = company.world.api().await;
        let path = format!("/api/v1/operator/subscriptions/{}", company.id);
        let held = json!({"hold": true, "hold_reason": "looked at"});
        api.write("PATCH", &path, held).await.expect(200);
        api.write("PATCH", &path, json!({"hold": false})).await.expect(200);
        outbox(&mut company).await;
        assert_eq!(charged(&company), charged_then, "no step puts them back");
        company.pass(28).await;
        assert_eq!(addons(&company).await, kept, "Stripe's number counts");
        buy(&mut company, 1).await;
        outbox(&mut company).await;
        assert_eq!(charged(&company), charged_then + 1, "what is ordered later is charged");
        assert_eq!(company.flags().await, ["slots_reduced_at_stripe"], "said once");
    }
}

/// Trap 66: an event that never came is made up for, whichever item it was about.
#[tokio::test]
async fn the_comparison_finds_a_quantity_and_every_item_that_differ() {
    let mut company = Company::new().await;
    let seen = "quantity, device_limit";
    for (price, quantity) in [("price_pro_month", Some(2)), (STANDARD, Some(3)), (STANDARD, None)] {
        company.world.stripe.set_quantity(&company.stripe, price, quantity).expect("changed");
        drop(company.new_events());
        let repaired = |page: &Value| page["repaired"].clone();
        let compare =
            async || json!(company.world.events.applier.compare(None).await.expect("a comparison"));
        assert_eq!(repaired(&compare().await), 1, "{price} {quantity:?}");
        assert_eq!(repaired(&compare().await), 0, "{price} {quantity:?}: once");
    }
    assert_eq!(company.row(seen).await, json!({"quantity": 2, "device_limit": 520}));
    assert_eq!(addons(&company).await, Vec::<Value>::new());
}

#[tokio::test]
async fn slots_beside_a_plan_whose_price_is_mapped_after_it_was_paid_are_given_then() {
    let mut company = Company::new().await;
    set(&mut company, "price_unmapped", Some(3)).await;
    assert_eq!(addons(&company).await, Vec::<Value>::new());
    let api = company.world.api().await;
    let mapped = json!({"addon_stripe_price_id": "price_unmapped"});
    api.write("PUT", "/api/v1/operator/device-tiers/3", mapped).await.expect(200);
    company.world.outbox().await;
    assert_eq!(addons(&company).await, [addon("3", 3)]);
}

/// Trap 67. Stripe shows ten, and takes twenty.
#[tokio::test]
async fn a_subscription_with_more_than_one_page_of_items_is_read_whole() {
    let mut company = Company::new().await;
    for number in 0..18 {
        let id = format!("price_other_{number}");
        company.world.stripe.add_price(Price {
            id: id.clone(),
            product: format!("prod_{number}"),
            currency: "usd".to_owned(),
            unit_amount: 100,
            interval: Interval::Month,
            nickname: id.clone(),
        });
        company.world.stripe.set_quantity(&company.stripe, &id, Some(1)).expect("added");
    }
    for (price, quantity) in
        [("price_pro_month", None), ("price_starter_month", Some(2)), (STANDARD, Some(4))]
    {
        company.world.stripe.set_quantity(&company.stripe, price, quantity).expect("changed");
    }
    company.deliver().await;
    assert_eq!(
        company.row("plan_id, quantity, jsonb_array_length(stripe_items) AS items").await,
        json!({"plan_id": "starter", "quantity": 2, "items": 20})
    );
    assert_eq!(addons(&company).await, [addon("2", 4)]);
    buy(&mut company, 3).await;
    outbox(&mut company).await;
    assert_eq!(charged(&company), 7, "the step finds the item");
}
