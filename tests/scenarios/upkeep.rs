//! What the hourly run keeps true and tidy: counts against devices, kept answers, old payloads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use shared::base::ids::SubscriptionId;
use shared::db::in_chunks;
use shared::domain::allocations::comparison;
use shared::domain::allocations::comparison::SLICE;
use shared::domain::allocations::model::CountCheck;
use shared::domain::events::tidying;
use shared::domain::idempotency;
use tests::api::{Api, Who};
use tests::{World, text};

const LONG: Duration = Duration::from_mins(1);

/// Subscriptions of the development seed.
const SEEDED: i64 = 2;

async fn correct(world: &World, after: Option<SubscriptionId>, budget: Duration) -> CountCheck {
    let applier = &world.events.applier;
    comparison::correct(&applier.db, after, budget, applier.clock.now()).await.expect("a run")
}

/// A tenant's MAIN with slots of two tiers, and devices on it.
async fn family(world: &World, api: &Api, tenant: &str, devices: i64) -> String {
    world
        .db
        .execute("INSERT INTO tenants (tenant_id, name) VALUES ($1, $1)", &[&tenant])
        .await
        .expect("a tenant");
    let body = json!({"tenant_id": tenant, "subscription_type": "MAIN", "device_limit": 100,
    "term_days": 365});
    let main = text(&api.create_subscription(body).await["subscription_id"]);
    for tier in [1, 2] {
        let path = format!("/api/v1/operator/subscriptions/{main}/tier-allocations");
        api.write("POST", &path, json!({"tier_id": tier, "slot_limit": 50})).await.expect(201);
    }
    for n in 0..devices {
        let body = json!({"tenant_id": tenant, "device_id": format!("{tenant}-{n}")});
        api.write("POST", "/api/v1/operator/devices", body).await.expect(201);
    }
    main
}

/// Families that were corrected, by whom, and how.
async fn corrections(world: &World) -> Vec<Value> {
    world
        .rows(
            "SELECT subscription_id, actor_id, details->'corrections' AS slots,
             details->'device_count_corrections' AS devices
             FROM subscription_audit WHERE event_type = 'TIER_SLOTS_RECONCILED' ORDER BY id",
        )
        .await
}

/// Trap 26: the repair next to those who assign. 16 connections give tiers, take them and move
/// devices; runs go over and over them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_next_to_16_connections_that_assign_correct_nothing_but_what_is_wrong() {
    let world = World::new().await;
    let api = world.api_with(&world.env(&[("DATABASE_POOL_SIZE", "16")])).await;
    let main = family(&world, &api, "acme", 16).await;
    family(&world, &api, "other", 0).await;
    // One count that is wrong all the same, and stays so until a run corrects it.
    world
        .db
        .execute(
            "UPDATE subscription_tier_allocations SET slots_used = 40
                      WHERE tenant_id = 'other' AND tier_id = 1",
            &[],
        )
        .await
        .expect("drift");
    let (assigning, who) = (AtomicBool::new(true), Who::Customer("acme"));
    let hands = async {
        join_all((0..16).map(|hand| {
            let api = &api;
            async move {
                for round in 0..20 {
                    let path =
                        format!("/api/v1/customer/devices/acme-{}/tier", (hand + round) % 16);
                    let reply = match (hand + round) % 3 {
                        0 => api.send(who, "DELETE", &path, &[], None).await,
                        tier => {
                            api.send(who, "PUT", &path, &[], Some(json!({"tier_id": tier}))).await
                        }
                    };
                    assert_eq!(reply.status, 200, "{}", reply.body);
                }
            }
        }))
        .await;
        assigning.store(false, Ordering::SeqCst);
    };
    let runs = async {
        let (mut runs, mut seen, mut corrected) = (0, 0, 0);
        while assigning.load(Ordering::SeqCst) || runs < 20 {
            // Two at once: of two that see the wrong count one corrects it.
            for counted in
                join_all([correct(&world, None, LONG), correct(&world, None, LONG)]).await
            {
                assert_eq!(
                    (counted.device_count_differs, counted.failed, counted.next),
                    (0, 0, None)
                );
                seen += counted.slots_used_differs;
                corrected += counted.corrected;
            }
            runs += 1;
        }
        (seen, corrected)
    };
    let ((), (seen, corrected)) = futures::join!(hands, runs);
    assert!(
        (1..=2).contains(&seen),
        "a change that is being made was taken for a wrong count: {seen}"
    );
    assert_eq!(corrected, 1);
    let audit = corrections(&world).await;
    assert_eq!(audit.len(), 1, "{audit:?}");
    assert_eq!(
        (&audit[0]["actor_id"], &audit[0]["slots"]),
        (&json!("renewal"), &json!([{"tier_id": 1, "old_slots_used": 40, "actual_count": 0}]))
    );
    let held = world
        .row(
            "SELECT count(*) FILTER (WHERE tier_id = 1) AS basic,
                          count(*) FILTER (WHERE tier_id = 2) AS standard FROM devices",
        )
        .await;
    let used = format!(
        "SELECT sum(slots_used) FILTER (WHERE tier_id = 1) AS basic,
         sum(slots_used) FILTER (WHERE tier_id = 2) AS standard
                        FROM subscription_tier_allocations WHERE subscription_id = '{main}'"
    );
    assert_eq!(world.row(&used).await, held);
}

#[tokio::test]
async fn a_run_corrects_each_family_for_itself_within_its_time_and_leaves_what_was_counted_by_hand()
{
    let world = World::new().await;
    let api = world.api().await;
    let mains = [
        family(&world, &api, "a", 2).await,
        family(&world, &api, "b", 1).await,
        family(&world, &api, "c", 1).await,
    ];
    let body = json!({"tenant_id": "a", "subscription_type": "ADDON", "device_limit": 9,
    "parent_subscription_id": mains[0]});
    let addon = text(&api.create_subscription(body).await["subscription_id"]);
    api.write(
        "POST",
        &format!("/api/v1/operator/subscriptions/{addon}/tier-allocations"),
        json!({"tier_id": 2, "slot_limit": 3}),
    )
    .await
    .expect(201);
    let none = CountCheck { compared: 4 + SEEDED, ..CountCheck::default() };
    assert_eq!(correct(&world, None, LONG).await, none, "nothing is wrong, and nothing is done");
    let by_hand = format!("/api/v1/operator/subscriptions/{}/tier-allocations/1", mains[2]);
    let set = api.write("PUT", &by_hand, json!({"slots_used": 9})).await.expect(200);
    assert_eq!(
        (&set["counted_by_hand"], &set["warning"]),
        (&json!(true), &json!("slots_used is 9, and 0 devices hold the tier"))
    );
    // Of c only the other tier is wrong; of a an ADDON's row and a tier without a row; of b the
    // devices.
    world
        .db
        .batch_execute(&format!(
            "UPDATE subscription_tier_allocations SET slots_used = 5 WHERE subscription_id = '{}'
             AND tier_id = 2;
             UPDATE subscription_tier_allocations SET slots_used = 1
             WHERE subscription_id = '{addon}';
             UPDATE devices SET tier_id = 3 WHERE device_id = 'a-0';
             UPDATE subscriptions SET active_device_count = 7 WHERE subscription_id = '{}'",
            mains[2], mains[1]
        ))
        .await
        .expect("drift");
    let before = world.rows("SELECT * FROM subscription_tier_allocations ORDER BY id").await;
    let start = SubscriptionId::parse("SUB-1").expect("an id");
    let found = CountCheck {
        compared: 4 + SEEDED,
        slots_used_differs: 3,
        device_count_differs: 1,
        counted_by_hand: 1,
        ..CountCheck::default()
    };
    assert_eq!(
        correct(&world, Some(start.clone()), Duration::ZERO).await,
        CountCheck { next: Some(start), ..found.clone() },
        "the next run begins where this one did"
    );
    assert_eq!(
        world.rows("SELECT * FROM subscription_tier_allocations ORDER BY id").await,
        before,
        "without time nothing is changed"
    );
    assert_eq!(correct(&world, None, LONG).await, CountCheck { corrected: 3, ..found });
    let audit = corrections(&world).await;
    let expected = [
        json!({"subscription_id": mains[0], "actor_id": "renewal", "devices": [], "slots": [
            {"tier_id": 3, "old_slots_used": 0, "actual_count": 1}, {"subscription_id": addon,
            "tier_id": 2, "old_slots_used": 1, "actual_count": 0}]}),
        json!({"subscription_id": mains[1], "actor_id": "renewal", "slots": [],
            "devices": [{"subscription_id": mains[1], "old_active_device_count": 7,
                "actual_count": 1}]}),
        json!({"subscription_id": mains[2], "actor_id": "renewal", "devices": [],
            "slots": [{"tier_id": 2, "old_slots_used": 5, "actual_count": 0}]}),
    ];
    assert_eq!(audit, expected);
    assert_eq!(
        correct(&world, None, LONG).await,
        CountCheck { counted_by_hand: 1, ..none.clone() }
    );
    // An operator's reconciliation ends what an operator set.
    let path = format!("/api/v1/operator/subscriptions/{}/reconcile-tiers", mains[2]);
    api.send(Who::Admin, "POST", &path, &[], None).await.expect(200);
    assert_eq!(correct(&world, None, LONG).await, none);
}

/// A fleet larger than a slice, with a family that lies in both: each run does a part, and the last
/// one wraps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_fleet_is_compared_in_slices_that_wrap_around() {
    let world = World::new().await;
    // Ids of a year to come: after those that are given today.
    world
        .db
        .batch_execute(&format!(
            "INSERT INTO tenants (tenant_id, name) VALUES ('fleet', 'Fleet');
             INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
             device_limit, term_start, term_end, created_by)
             SELECT 'SUB-2099-1' || lpad(n::text, 6, '0'), 'fleet', 'MAIN', 'ACTIVE', 9,
             '2026-01-01', '2036-01-01', 'x' FROM generate_series(1, {SLICE} - {SEEDED}) n;
             -- Its root is the first of the first slice; it is in the second.
             INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type,
             parent_subscription_id, status, device_limit, active_device_count, term_start,
             term_end, created_by)
             VALUES ('SUB-2099-9', 'fleet', 'ADDON', 'SUB-2099-1000001', 'ACTIVE', 9, 5,
             '2026-01-01', '2036-01-01', 'x'); INSERT INTO devices (tenant_id, device_id,
             subscription_id, tier_id, registered_at)
             VALUES ('fleet', 'D-1', 'SUB-2099-9', 2, now()); ANALYZE"
        ))
        .await
        .expect("a fleet");
    let last = SubscriptionId::parse(&format!("SUB-2099-1{:06}", SLICE - SEEDED)).expect("an id");
    let first = correct(&world, None, LONG).await;
    assert_eq!(
        first,
        CountCheck {
            compared: SLICE,
            slots_used_differs: 1,
            corrected: 1,
            next: Some(last),
            ..CountCheck::default()
        }
    );
    let used = world
        .row(
            "SELECT subscription_id, tier_id, slot_limit, slots_used
                          FROM subscription_tier_allocations WHERE tenant_id = 'fleet'",
        )
        .await;
    assert_eq!(
        used,
        json!({"subscription_id": "SUB-2099-1000001", "tier_id": 2, "slot_limit": 0,
            "slots_used": 1})
    );
    // The first one's lock corrected the whole family.
    let second = correct(&world, first.next, LONG).await;
    assert_eq!(second, CountCheck { compared: 1, ..CountCheck::default() });
    world
        .db
        .execute(
            "UPDATE subscriptions SET active_device_count = 5 WHERE subscription_id = 'SUB-2099-9'",
            &[],
        )
        .await
        .expect("drift");
    let api = world.api().await;
    let shown = api.get(Who::Operator, "/api/v1/operator/invariants").await.expect(200);
    assert_eq!(
        (&shown["compared"], &shown["complete"], &shown["invariants"][1]["examples"]),
        (&json!(SLICE + 1), &json!(true), &json!(["SUB-2099-9"]))
    );
}

#[tokio::test]
async fn answers_are_deleted_when_they_count_no_more_and_payloads_after_90_days() {
    let world = World::new().await;
    let api = world.api().await;
    let (db, now) = (&world.events.applier.db, world.clock.now());
    let fill = "INSERT INTO idempotency_keys (subject, route, key, request, answer, created_at)
                SELECT 's', 'r', 'k' || n, '\\x'::bytea, '{}'::jsonb,
                $1::timestamptz - interval '24 hours' - n * interval '1 second'
                FROM generate_series(0, 12000) n
                UNION ALL SELECT 's', 'r', 'fresh', '\\x', '{}',
                $1::timestamptz - interval '24 hours' + interval '1 second'";
    world.db.execute(fill, &[&now]).await.expect("answers");
    assert_eq!(
        in_chunks(Duration::ZERO, || idempotency::delete_expired(db, now)).await.expect("no time"),
        0
    );
    assert_eq!(
        in_chunks(LONG, || idempotency::delete_expired(db, now)).await.expect("deleted"),
        12_001
    );
    assert_eq!(world.rows("SELECT key FROM idempotency_keys").await, [json!({"key": "fresh"})]);

    let fill = "INSERT INTO stripe_events (event_id, event_type, livemode, created_at, recorded_at,
                updated_at, status, payload)
                SELECT 'evt_' || n, 'invoice.paid', false, $1::timestamptz, $1::timestamptz,
                $1::timestamptz, (ARRAY['applied', 'ignored', 'dismissed'])[1 + n % 3],
                '{\"id\": \"in_1\"}'::jsonb
                FROM generate_series(1, 4500) n
                UNION ALL SELECT 'evt_' || status, 'invoice.paid', false, $1, $1, $1, status, '{}'
                FROM unnest(ARRAY['waiting', 'failed']) status";
    let old = now - tidying::PAYLOAD_KEPT - jiff::SignedDuration::from_secs(1);
    world.db.execute(fill, &[&old]).await.expect("events");
    let fresh =
        "INSERT INTO stripe_events (event_id, event_type, livemode, created_at, recorded_at,
                 status, payload) VALUES ('evt_fresh', 'x', false, $1, $1, 'applied', '{}')";
    world.db.execute(fresh, &[&(now - tidying::PAYLOAD_KEPT)]).await.expect("an event");
    assert_eq!(
        in_chunks(Duration::ZERO, || tidying::drop_payloads(db, now)).await.expect("no time"),
        0
    );
    assert_eq!(in_chunks(LONG, || tidying::drop_payloads(db, now)).await.expect("dropped"), 4_500);
    let kept = world
        .rows("SELECT event_id FROM stripe_events WHERE payload IS NOT NULL ORDER BY event_id")
        .await;
    assert_eq!(
        kept,
        [
            json!({"event_id": "evt_failed"}),
            json!({"event_id": "evt_fresh"}),
            json!({"event_id": "evt_waiting"})
        ]
    );
    assert_eq!(
        world.count("stripe_events WHERE updated_at < now() - interval '90 days'").await,
        4_502,
        "an outcome is as old as it was"
    );
    // One without a payload is done: shown, and not replayed.
    let path = "/api/v1/operator/stripe-events/evt_1";
    let shown = api.get(Who::Operator, path).await.expect(200);
    assert_eq!((&shown["status"], &shown["payload"]), (&json!("ignored"), &Value::Null));
    let replay = api.send(Who::Admin, "POST", &format!("{path}/replay"), &[], None).await;
    assert_eq!(replay.problem(409, "event_final"), "Stripe event is already ignored");
}
