//! `device-tier`, the platform's own route: when devices were last heard of.

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::api::{Api, Reply, Who};
use tests::{World, connect};

const PATH: &str = "/api/v1/service/devices/last-seen";

/// Tenants `acme` and `bolt`: the first has so many devices `D-1` and on, the other has `D-1` too.
async fn fleet(devices: i32) -> (World, Api) {
    let world = World::new().await;
    let fill = format!(
        "INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme'), ('bolt', 'Bolt');
         INSERT INTO devices (tenant_id, device_id, registered_at)
         SELECT 'acme', 'D-' || n, now() FROM generate_series(1, {devices}) n;
         INSERT INTO devices (tenant_id, device_id, registered_at) VALUES ('bolt', 'D-1', now())"
    );
    world.db.batch_execute(&fill).await.expect("a fleet");
    let api = world.api().await;
    (world, api)
}

fn sighting(tenant: Option<&str>, device: &str, at: &str) -> Value {
    let mut sighting = json!({"device_id": device, "last_seen_at": at});
    if let Some(tenant) = tenant {
        sighting["tenant_id"] = json!(tenant);
    }
    sighting
}

async fn send(api: &Api, devices: &[Value]) -> Reply {
    api.send(Who::Service, "POST", PATH, &[], Some(json!({"devices": devices}))).await
}

fn counts(updated: i64, unchanged: i64, unknown: i64, ambiguous: i64) -> Value {
    json!({"updated": updated, "unchanged": unchanged, "unknown": unknown, "ambiguous": ambiguous})
}

/// When a device was last seen, by the API.
async fn seen(api: &Api, tenant: &str, device: &str) -> Value {
    let path = format!("/api/v1/customer/devices/{device}");
    api.get(Who::Customer(tenant), &path).await.expect(200)["last_seen_at"].clone()
}

const MAY: &str = "2026-05-01T10:00:00Z";
const JUNE: &str = "2026-06-01T10:00:00Z";

/// Trap 122.
#[tokio::test]
async fn a_time_moves_forward_and_never_back_and_what_is_no_device_is_counted() {
    let (world, api) = fleet(4).await;
    assert_eq!(send(&api, &[]).await.expect(200), counts(0, 0, 0, 0));
    let acme = |device: &str, at: &str| sighting(Some("acme"), device, at);
    // A device of one tenant needs no tenant, and one that is named twice has the later time.
    let batch = [
        acme("D-1", JUNE),
        acme("D-1", MAY),
        sighting(None, "D-2", "2026-06-01T12:00:00+02:00"),
        acme("D-3", JUNE),
        sighting(Some("bolt"), "D-3", JUNE),
        sighting(None, "D-99", JUNE),
        sighting(None, "D-1", JUNE),
        sighting(Some("nobody"), "D-1", JUNE),
    ];
    assert_eq!(send(&api, &batch).await.expect(200), counts(3, 1, 3, 1));
    for device in ["D-1", "D-2", "D-3"] {
        assert_eq!(seen(&api, "acme", device).await, JUNE, "{device}");
    }
    assert_eq!(seen(&api, "bolt", "D-1").await, Value::Null, "nobody said which D-1");
    assert_eq!(seen(&api, "acme", "D-4").await, Value::Null);
    // The same again, and what is older.
    assert_eq!(send(&api, &batch).await.expect(200), counts(0, 4, 3, 1));
    let older = [acme("D-1", MAY), acme("D-4", MAY)];
    assert_eq!(send(&api, &older).await.expect(200), counts(1, 1, 0, 0));
    assert_eq!(seen(&api, "acme", "D-1").await, JUNE);
    // One out of use is none.
    let path = "/api/v1/customer/devices/D-4";
    api.send(Who::Customer("acme"), "DELETE", path, &[], None).await.expect(200);
    assert_eq!(send(&api, &[acme("D-4", JUNE)]).await.expect(200), counts(0, 0, 1, 0));
    let row =
        world.row("SELECT last_seen_at::date::text AS day FROM devices WHERE device_id = 'D-4'");
    assert_eq!(row.await["day"], "2026-05-01");
}

/// A measurement is no change of the device: nothing else of it moves, and the audit, which is kept
/// for years, has no row of it.
#[tokio::test]
async fn nothing_but_the_time_changes_and_no_family_is_waited_for() {
    let (world, api) = fleet(2).await;
    let new = json!({"tenant_id": "acme", "subscription_type": "MAIN", "device_limit": 5,
        "term_days": 30});
    api.create_subscription(new).await;
    world
        .db
        .batch_execute(
            "UPDATE devices d SET subscription_id = s.subscription_id FROM subscriptions s
             WHERE s.tenant_id = 'acme' AND d.tenant_id = 'acme'",
        )
        .await
        .expect("assigned");
    let all = "SELECT (SELECT jsonb_agg(to_jsonb(d) - 'last_seen_at' ORDER BY device_id)
               FROM devices d) AS devices, (SELECT jsonb_agg(to_jsonb(s)) FROM subscriptions s)
               AS subscriptions, (SELECT count(*) FROM subscription_audit) AS audit";
    let before = world.row(all).await;
    let mut other = connect(&world.settings["DATABASE_NAME"]).await;
    let tx = other.transaction().await.expect("a transaction");
    tx.query("SELECT FROM subscriptions FOR UPDATE", &[]).await.expect("the family's lock");
    let batch = [sighting(Some("acme"), "D-1", JUNE), sighting(None, "D-2", JUNE)];
    assert_eq!(send(&api, &batch).await.expect(200), counts(2, 0, 0, 0));
    drop(tx);
    assert_eq!(world.row(all).await, before);
}

/// A device that somebody changes is waited for, and not for long; the rest of the batch comes with
/// its repetition.
#[tokio::test]
async fn a_device_that_stays_locked_refuses_its_batch_and_the_batch_can_be_sent_again() {
    let (world, api) = fleet(3).await;
    let mut other = connect(&world.settings["DATABASE_NAME"]).await;
    let tx = other.transaction().await.expect("a transaction");
    tx.query("SELECT FROM devices WHERE device_id = 'D-2' FOR UPDATE", &[]).await.expect("a lock");
    let batch = ["D-2", "D-3"].map(|device| sighting(None, device, JUNE));
    let refused = send(&api, &batch).await;
    refused.problem(503, "unavailable");
    assert_eq!(refused.header("retry-after"), "5");
    assert_eq!(world.count("devices WHERE last_seen_at IS NOT NULL").await, 0);
    drop(tx);
    assert_eq!(send(&api, &batch).await.expect(200), counts(2, 0, 0, 0));
    // The connection is the operators' again.
    api.get(Who::Operator, "/api/v1/operator/devices").await.expect(200);
}

#[tokio::test]
async fn a_time_in_the_future_or_too_many_devices_refuse_the_whole_batch() {
    let (world, api) = fleet(501).await;
    let now = world.clock.now();
    let at = |minutes: i64| (now + SignedDuration::from_mins(minutes)).to_string();
    let batch = [
        sighting(Some("acme"), "D-1", JUNE),
        sighting(Some("acme"), "D-2", &at(6)),
        sighting(None, "D-3", "2199-01-01T00:00:00Z"),
        sighting(None, "D-4", &at(4)),
    ];
    assert_eq!(
        send(&api, &batch).await.faults(),
        [1, 2].map(|index| format!(
            "devices[{index}].last_seen_at must be at most 5 minutes in the future"
        ))
    );
    let many: Vec<Value> =
        (1..=501).map(|n| sighting(Some("acme"), &format!("D-{n}"), JUNE)).collect();
    assert_eq!(send(&api, &many).await.faults(), ["devices must have at most 500 items"]);
    let naive = sighting(None, "D-1", "2026-06-01T10:00:00");
    assert_eq!(
        send(&api, &[naive]).await.faults(),
        ["devices[0].last_seen_at must be a time with an offset, such as 2026-01-31T09:30:00Z"]
    );
    let body = json!({"devices": [{"device_id": "D-1", "last_seen_at": JUNE, "tier_id": 1}]});
    let reply = api.send(Who::Service, "POST", PATH, &[], Some(body)).await;
    assert_eq!(reply.faults(), ["devices[0].tier_id is not a field of this request"]);
    assert_eq!(world.count("devices WHERE last_seen_at IS NOT NULL").await, 0);
    assert_eq!(send(&api, &batch[3..]).await.expect(200), counts(1, 0, 0, 0), "a fast clock");
    assert_eq!(send(&api, &many[..500]).await.expect(200), counts(499, 1, 0, 0));
    for who in [Who::Admin, Who::Customer("acme")] {
        api.send(who, "POST", PATH, &[], Some(json!({"devices": []})))
            .await
            .problem(403, "service_required");
    }
}

/// Trap 123: without one order of the locks two batches wait for each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_the_same_devices_in_any_order_at_once_end_with_the_latest_time() {
    let (world, _) = fleet(500).await;
    // Each has connections of its own.
    let mut apis = Vec::new();
    for _ in 0..4 {
        apis.push(world.api().await);
    }
    let start: Timestamp = MAY.parse().expect("an instant");
    let rounds = 12;
    let work = (0_i64..).zip(&apis).map(|(writer, api)| async move {
        for round in 0..rounds {
            // The two of each pair go through the devices from both ends.
            let at = start + SignedDuration::from_secs(i64::from(round) * 4 + writer);
            let mut batch: Vec<Value> = (1..=500)
                .map(|n| sighting(Some("acme"), &format!("D-{n}"), &at.to_string()))
                .collect();
            if writer % 2 == 1 {
                batch.reverse();
            }
            let reply = send(api, &batch).await;
            assert_eq!(reply.status, 200, "writer {writer}, round {round}: {}", reply.body);
        }
    });
    join_all(work).await;
    let last = start + SignedDuration::from_secs(i64::from(rounds - 1) * 4 + 3);
    let behind = format!("devices WHERE tenant_id = 'acme' AND last_seen_at <> '{last}'");
    assert_eq!(world.count(&behind).await, 0);
}
