//! `operations`: what must never be, made so once each, and seen.

use serde_json::{Value, json};
use shared::domain::allocations::comparison;
use shared::domain::invariants;
use shared::domain::invariants::model::Invariant;
use tests::api::{Api, Who};
use tests::{World, text};

const INVARIANTS: &str = "/api/v1/operator/invariants";

/// A system in order: a MAIN with its ADDON and devices on both, one more of each kind whose time
/// has not come, an event and two steps that wait.
async fn in_order(world: &World, api: &Api) {
    world
        .db
        .batch_execute(
            "INSERT INTO tenants (tenant_id, name, stripe_customer_id)
                            VALUES ('acme', 'Acme', 'cus_acme')",
        )
        .await
        .expect("a tenant");
    let make = async |body: Value| text(&api.create_subscription(body).await["subscription_id"]);
    let main = make(json!({"tenant_id": "acme", "subscription_type": "MAIN", "device_limit": 9,
    "term_days": 365}))
    .await;
    let addon = make(json!({"tenant_id": "acme", "subscription_type": "ADDON", "device_limit": 9,
    "parent_subscription_id": main}))
    .await;
    make(json!({"tenant_id": "acme", "subscription_type": "TEMPORARY", "device_limit": 9,
    "term_days": 365}))
    .await;
    for (on, device) in [(&main, "D-1"), (&addon, "D-2")] {
        api.write(
            "POST",
            &format!("/api/v1/operator/subscriptions/{on}/tier-allocations"),
            json!({"tier_id": 1, "slot_limit": 5}),
        )
        .await
        .expect(201);
        let body = json!({"tenant_id": "acme", "device_id": device, "subscription_id": on});
        api.write("POST", "/api/v1/operator/devices", body).await.expect(201);
        api.write(
            "PUT",
            "/api/v1/operator/devices/tier",
            json!({"tenant_id": "acme", "device_id": device, "tier_id": 1}),
        )
        .await
        .expect(200);
    }
    world
        .db
        .batch_execute(
            "INSERT INTO stripe_events (event_id, event_type, livemode, created_at, recorded_at,
             customer_id, object_id, stripe_subscription_id, status) VALUES
                 ('evt_1', 'customer.updated', false, now(), now() - interval '70 hours',
                 'cus_stranger', 'cus_stranger', NULL, 'waiting'),
                 ('evt_2', 'checkout.session.completed', false, now(), now() - interval '29 days',
                 'cus_acme', 'cs_2', 'sub_2', 'waiting'); INSERT INTO outbox_steps (kind, tenant_id,
                 dedup_key, payload, next_attempt_at, created_at)
                 VALUES ('keycloak_user', 'acme', 'first', '{}', now() + interval '1 hour',
                 now() - interval '59 minutes'); INSERT INTO outbox_steps (kind, tenant_id,
                 dedup_key, payload, next_attempt_at, created_at, after_step_id)
                 SELECT 'welcome_mail', 'acme', 'second', '{}', now() - interval '9 hours',
                 now() - interval '9 hours', step_id FROM outbox_steps;
             -- Its customer has just been linked.
             UPDATE tenants SET updated_at = now() WHERE tenant_id = 'acme'",
        )
        .await
        .expect("what waits");
}

/// What breaks an invariant, and what mends it. `MAIN`, `ADDON` and `OTHER` stand for the ids.
const BROKEN: &[(Invariant, &str, &str, &str)] = &[
    (
        Invariant::SlotsUsedDiffers,
        "UPDATE subscription_tier_allocations SET slots_used = 3 WHERE subscription_id = 'MAIN'",
        "UPDATE subscription_tier_allocations SET slots_used = 2 WHERE subscription_id = 'MAIN'",
        "MAIN",
    ),
    (
        Invariant::SlotsUsedDiffers,
        "UPDATE subscription_tier_allocations SET slots_used = 1 WHERE subscription_id = 'ADDON'",
        "UPDATE subscription_tier_allocations SET slots_used = 0 WHERE subscription_id = 'ADDON'",
        "ADDON",
    ),
    (
        // Held by an ADDON's device, and nowhere to count it.
        Invariant::SlotsUsedDiffers,
        "UPDATE devices SET tier_id = 3 WHERE device_id = 'D-2'; UPDATE
         subscription_tier_allocations SET slots_used = 1 WHERE subscription_id = 'MAIN'",
        "UPDATE devices SET tier_id = 1 WHERE device_id = 'D-2'; UPDATE
         subscription_tier_allocations SET slots_used = 2 WHERE subscription_id = 'MAIN'",
        "MAIN",
    ),
    (
        Invariant::DeviceCountDiffers,
        "UPDATE subscriptions SET active_device_count = 0 WHERE subscription_id = 'ADDON'",
        "UPDATE subscriptions SET active_device_count = 1 WHERE subscription_id = 'ADDON'",
        "ADDON",
    ),
    (
        Invariant::GraceWithoutEnd,
        "ALTER TABLE subscriptions DROP CONSTRAINT subscriptions_grace; UPDATE subscriptions
         SET status = 'GRACE' WHERE subscription_id = 'OTHER'",
        "UPDATE subscriptions SET status = 'ACTIVE' WHERE subscription_id = 'OTHER'",
        "OTHER",
    ),
    (
        Invariant::LivePastEnd,
        "UPDATE subscriptions SET term_start = '2026-01-01',
         term_end = now() - interval '121 minutes' WHERE subscription_id = 'OTHER'",
        "UPDATE subscriptions SET term_end = now() - interval '119 minutes'
         WHERE subscription_id = 'OTHER'",
        "OTHER",
    ),
    (
        Invariant::LivePastEnd,
        "UPDATE subscriptions SET status = 'TRIAL', stripe_subscription_id = 'sub_9',
         term_end = now() - interval '73 hours 1 minute' WHERE subscription_id = 'OTHER'",
        "UPDATE subscriptions SET term_end = now() - interval '72 hours 59 minutes'
         WHERE subscription_id = 'OTHER'",
        "OTHER",
    ),
    (
        Invariant::LivePastEnd,
        "UPDATE subscriptions SET hold_reason = 'x', held_by = 'x', held_at = now()
         WHERE subscription_id = 'OTHER'",
        "UPDATE subscriptions SET hold_reason = NULL, held_by = NULL, held_at = NULL,
         stripe_subscription_id = NULL, status = 'SUSPENDED' WHERE subscription_id = 'OTHER'",
        "OTHER",
    ),
    (
        Invariant::LivePastEnd,
        "UPDATE subscriptions SET status = 'GRACE', grace_end = now() - interval '121 minutes'
         WHERE subscription_id = 'OTHER'",
        "UPDATE subscriptions SET grace_end = now() - interval '119 minutes'
         WHERE subscription_id = 'OTHER'",
        "OTHER",
    ),
    (
        // One that ends with its parent is judged there; one that Stripe charges for by itself is
        // not, once what it has paid is over.
        Invariant::LivePastEnd,
        "UPDATE subscriptions SET status = 'GRACE', grace_end = now() + interval '1 day',
         term_start = '2026-01-01', term_end = now() - interval '80 hours'
             WHERE subscription_id = 'MAIN';
         UPDATE subscriptions SET term_start = '2026-01-01', term_end = now() - interval '80 hours',
         stripe_subscription_id = 'sub_8', stripe_paid_until = now() - interval '74 hours'
         WHERE subscription_id = 'ADDON'",
        "UPDATE subscriptions SET stripe_paid_until = now() + interval '1 day'
         WHERE subscription_id = 'ADDON'",
        "ADDON",
    ),
    (
        Invariant::AddonPastRoot,
        "UPDATE subscriptions SET stripe_subscription_id = NULL, stripe_paid_until = NULL,
         term_end = term_end + interval '1 microsecond' WHERE subscription_id = 'ADDON'",
        "UPDATE subscriptions SET term_end = term_end - interval '1 microsecond'
         WHERE subscription_id = 'ADDON'",
        "ADDON",
    ),
    (
        Invariant::AddonPastRoot,
        "UPDATE subscriptions SET status = 'EXPIRED', grace_end = NULL
         WHERE subscription_id = 'MAIN'",
        "UPDATE subscriptions SET status = 'EXPIRED' WHERE subscription_id = 'ADDON'",
        "ADDON",
    ),
    (
        Invariant::EventsStuck,
        "UPDATE stripe_events SET recorded_at = now() - interval '73 hours 1 minute'
         WHERE event_id = 'evt_1'",
        "UPDATE stripe_events SET recorded_at = now() - interval '72 hours 59 minutes'
         WHERE event_id = 'evt_1'",
        "evt_1",
    ),
    (
        Invariant::EventsStuck,
        "UPDATE stripe_events SET customer_id = 'cus_acme' WHERE event_id = 'evt_1'; UPDATE tenants
         SET updated_at = now() - interval '61 minutes'",
        "UPDATE tenants SET updated_at = now()",
        "evt_1",
    ),
    (
        Invariant::EventsStuck,
        "UPDATE stripe_events SET customer_id = 'cus_alias' WHERE event_id = 'evt_1';
         INSERT INTO stripe_customer_aliases (stripe_customer_id, tenant_id, created_at)
         VALUES ('cus_alias', 'acme', now() - interval '61 minutes')",
        "UPDATE stripe_events SET recorded_at = now() - interval '59 minutes'
         WHERE event_id = 'evt_1'",
        "evt_1",
    ),
    (
        Invariant::EventsStuck,
        "UPDATE subscriptions SET created_at = now() - interval '61 minutes',
         stripe_subscription_id = 'sub_7'
         WHERE subscription_id = 'OTHER'; INSERT INTO stripe_events (event_id, event_type, livemode,
         created_at, recorded_at, stripe_subscription_id, status)
             VALUES ('evt_3', 'invoice.paid', false, now(), now() - interval '61 minutes', 'sub_7',
             'waiting')",
        "UPDATE stripe_events SET status = 'applied' WHERE event_id = 'evt_3'",
        "evt_3",
    ),
    (
        Invariant::EventsStuck,
        "UPDATE stripe_events SET recorded_at = now() - interval '30 days 1 minute'
         WHERE event_id = 'evt_2'",
        "UPDATE stripe_events SET recorded_at = now() - interval '29 days'
         WHERE event_id = 'evt_2'",
        "evt_2",
    ),
    (
        Invariant::EventsStuck,
        "INSERT INTO stripe_events (event_id, event_type, livemode, created_at, updated_at,
         object_id, status)
             VALUES ('evt_4', 'checkout.session.async_payment_succeeded', false, now(),
             now() - interval '61 minutes', 'cs_2', 'applied')",
        "UPDATE stripe_events SET updated_at = now() - interval '59 minutes'
         WHERE event_id = 'evt_4'",
        "evt_2",
    ),
    (
        // Tried again and again; its second waits for it, and is not counted.
        Invariant::StepsStuck,
        "UPDATE outbox_steps SET created_at = now() - interval '61 minutes', attempts = 1
         WHERE dedup_key = 'first'",
        "UPDATE outbox_steps SET retried_at = now() - interval '59 minutes'
         WHERE dedup_key = 'first'",
        "1",
    ),
    (
        Invariant::StepsStuck,
        "UPDATE outbox_steps SET status = 'done', updated_at = now() - interval '61 minutes'
         WHERE dedup_key = 'first'",
        "UPDATE outbox_steps SET updated_at = now() - interval '59 minutes'
         WHERE dedup_key = 'first'",
        "2",
    ),
];

#[tokio::test]
async fn each_invariant_made_false_is_seen_by_operators_and_by_the_run_and_no_other_is() {
    let world = World::new().await;
    let api = world.api().await;
    in_order(&world, &api).await;
    let id = async |kind: &str| {
        text(
            &world
                .row(&format!(
                    "SELECT subscription_id FROM subscriptions WHERE tenant_id = 'acme'
                                 AND subscription_type = '{kind}'"
                ))
                .await["subscription_id"],
        )
    };
    let ids = [
        ("MAIN", id("MAIN").await),
        ("ADDON", id("ADDON").await),
        ("OTHER", id("TEMPORARY").await),
    ];
    let with_ids = |text: &str| {
        ids.iter().fold(text.to_owned(), |text, (name, id)| {
            text.replace(&format!("'{name}'"), &format!("'{id}'"))
        })
    };
    for invariant in Invariant::ALL {
        assert!(
            BROKEN.iter().any(|(broken, ..)| broken == invariant),
            "nothing here breaks {invariant:?}"
        );
    }
    assert_eq!(broken(&world, &api).await, json!({}));
    for (invariant, breaks, mends, example) in BROKEN {
        world
            .db
            .batch_execute(&with_ids(breaks))
            .await
            .unwrap_or_else(|error| panic!("{breaks}: {error:?}"));
        let example = ids
            .iter()
            .find(|(name, _)| name == example)
            .map_or((*example).to_owned(), |(_, id)| id.clone());
        assert_eq!(
            broken(&world, &api).await,
            json!({invariant.as_str(): [1, example]}),
            "{breaks}"
        );
        world
            .db
            .batch_execute(&with_ids(mends))
            .await
            .unwrap_or_else(|error| panic!("{mends}: {error:?}"));
        assert_eq!(broken(&world, &api).await, json!({}), "{mends}");
    }
}

/// What is not 0, with the first example: as operators see it, and, without examples, the same for
/// the run.
async fn broken(world: &World, api: &Api) -> Value {
    let answer = api.get(Who::Operator, INVARIANTS).await.expect(200);
    let listed = answer["invariants"].as_array().expect("a list").clone();
    assert_eq!(listed.len(), Invariant::ALL.len());
    let seen: Vec<&Value> = listed.iter().filter(|finding| finding["count"] != 0).collect();
    assert_eq!(
        (&answer["ok"], &answer["complete"], &answer["compared"]),
        (&json!(seen.is_empty()), &json!(true), &json!(world.count("subscriptions").await))
    );
    let applier = &world.events.applier;
    let now = applier.clock.now();
    // A run without time corrects nothing, and says what it would.
    let counted = comparison::correct(&applier.db, None, std::time::Duration::ZERO, now)
        .await
        .expect("compared");
    let counts = invariants::count(&applier.db, &counted, now).await.expect("counted");
    let by_run: Vec<Value> = counts.into_iter().map(|(name, count)| json!([name, count])).collect();
    assert_eq!(
        by_run,
        listed.iter().map(|finding| json!([finding["name"], finding["count"]])).collect::<Vec<_>>()
    );
    seen.into_iter()
        .map(|finding| (text(&finding["name"]), json!([finding["count"], finding["examples"][0]])))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test]
async fn examples_are_the_first_ten_and_what_was_counted_by_hand_is_told_apart() {
    let world = World::new().await;
    let api = world.api().await;
    in_order(&world, &api).await;
    let fill = "INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
                device_limit, term_start, term_end, created_by)
                SELECT 'SUB-2020-' || lpad(n::text, 4, '0'), 'acme', 'MAIN', 'ACTIVE', 1,
                '2020-01-01', '2020-02-01', 'x' FROM generate_series(1, 12) n";
    world.db.batch_execute(fill).await.expect("twelve that never ended");
    let path = format!(
        "/api/v1/operator/subscriptions/{}",
        text(
            &world
                .row(
                    "SELECT max(subscription_id) AS id FROM subscriptions
                         WHERE tenant_id = 'acme' AND subscription_type = 'MAIN'"
                )
                .await["id"]
        )
    );
    api.write("PUT", &format!("{path}/tier-allocations/1"), json!({"slots_used": 7}))
        .await
        .expect(200);
    let answer = api.get(Who::Operator, INVARIANTS).await.expect(200);
    assert_eq!(
        answer["counted_by_hand"],
        json!({"count": 1, "examples": [path.rsplit('/').next()]})
    );
    let past = answer["invariants"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|finding| finding["count"] != 0)
        .expect("one")
        .clone();
    let examples: Vec<String> = (1..=10).map(|n| format!("SUB-2020-{n:04}")).collect();
    assert_eq!(
        (&past["name"], &past["count"], &past["examples"]),
        (&json!("live_past_end"), &json!(12), &json!(examples))
    );
    assert!(text(&past["meaning"]).starts_with("Live subscriptions whose term or grace ended"));
    assert_eq!(
        (&answer["ok"], answer["invariants"].as_array().map(Vec::len)),
        (&json!(false), Some(Invariant::ALL.len()))
    );
}
