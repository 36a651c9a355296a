//! Families under many hands at once, and against a model that is too simple to be wrong.

use std::collections::BTreeMap;

use futures::future::join_all;
use serde_json::{Value, json};
use tests::api::{Api, Reply, Who};
use tests::{World, text};

const SUBSCRIPTIONS: &str = "/api/v1/operator/subscriptions";
const DEVICES: &str = "/api/v1/operator/devices";

async fn tenant(world: &World, id: &str) {
    world
        .db
        .execute("INSERT INTO tenants (tenant_id, name) VALUES ($1, $1)", &[&id])
        .await
        .expect("a tenant");
}

async fn subscription(
    api: &Api,
    tenant: &str,
    kind: &str,
    devices: i64,
    parent: Option<&str>,
) -> String {
    let term = if parent.is_some() { Value::Null } else { json!(365) };
    let mut body = json!({"tenant_id": tenant, "subscription_type": kind, "device_limit": devices,
    "parent_subscription_id": parent});
    if !term.is_null() {
        body["term_days"] = term;
        body["plan_id"] = json!("pro");
    }
    text(&api.write("POST", SUBSCRIPTIONS, body).await.expect(201)["subscription_id"])
}

async fn allocate(api: &Api, subscription: &str, tier: i64, slots: i64) -> Reply {
    api.write(
        "POST",
        &format!("{SUBSCRIPTIONS}/{subscription}/tier-allocations"),
        json!({"tier_id": tier, "slot_limit": slots}),
    )
    .await
}

/// Traps 23 to 27, with an operator's hands: whatever is done at once, the counts are the devices,
/// and none meets a deadlock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_hands_on_one_family_leave_every_count_true() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = subscription(&api, "acme", "MAIN", 100, None).await;
    let other = subscription(&api, "acme", "MAIN", 100, None).await;
    let addon = subscription(&api, "acme", "ADDON", 100, Some(&main)).await;
    for (subscription, tier) in
        [(&main, 1), (&main, 2), (&main, 3), (&addon, 2), (&other, 1), (&other, 2), (&other, 3)]
    {
        allocate(&api, subscription, tier, 40).await.expect(201);
    }
    for n in 0..12 {
        api.write(
            "POST",
            DEVICES,
            json!({"tenant_id": "acme", "device_id": format!("D-{n}"), "subscription_id": main}),
        )
        .await
        .expect(201);
    }
    for round in 0..3 {
        let hand = |n: i64| {
            let (api, main, other, addon) = (&api, &main, &other, &addon);
            async move {
                let device = format!("D-{}", n % 12);
                let tier = if n % 4 == 3 { Value::Null } else { json!(n % 3 + 1) };
                let to = [other, addon, main][usize::try_from((n + round) % 3).expect("small")];
                let body = json!({"device_id": device, "tenant_id": "acme", "tier_id": tier});
                match n % 8 {
                    0..=2 => api.write("PUT", &format!("{DEVICES}/tier"), body).await,
                    3 | 4 => {
                        api.write(
                            "POST",
                            &format!("{DEVICES}/{device}/subscription"),
                            json!({"subscription_id": to}),
                        )
                        .await
                    }
                    5 => {
                        api.send(
                            Who::Admin,
                            "POST",
                            &format!("{SUBSCRIPTIONS}/{to}/reconcile-tiers"),
                            &[],
                            None,
                        )
                        .await
                    }
                    6 if n % 16 == 6 => {
                        api.send(
                            Who::Admin,
                            "DELETE",
                            &format!("{SUBSCRIPTIONS}/{addon}/tier-allocations/2"),
                            &[],
                            None,
                        )
                        .await
                    }
                    6 => {
                        api.write(
                            "PUT",
                            &format!("{SUBSCRIPTIONS}/{main}/tier-allocations/2"),
                            json!({"slot_limit": 30 + n}),
                        )
                        .await
                    }
                    _ if n % 16 == 7 => allocate(api, addon, 2, 20).await,
                    _ => {
                        api.write(
                            "PATCH",
                            &format!("{SUBSCRIPTIONS}/{main}"),
                            json!({"plan_id": if n % 32 == 15 { "pro" } else { "starter" },
                            "device_limit": 100}),
                        )
                        .await
                    }
                }
            }
        };
        let replies = join_all((0..64).map(hand)).await;
        for reply in &replies {
            assert!(
                matches!(reply.status, 200 | 201 | 400 | 404 | 409),
                "{}: {}",
                reply.status,
                reply.body
            );
        }
        assert!(replies.iter().filter(|reply| reply.status < 300).count() > 32);
        assert_counts_are_true(&world).await;
    }
}

/// Invariant 1 of docs/subscriptions.md, by counting.
async fn assert_counts_are_true(world: &World) {
    let slots = "SELECT a.subscription_id, a.tier_id, a.slots_used,
                        (SELECT count(*) FROM devices d JOIN subscriptions m
                        ON m.subscription_id = d.subscription_id
                         WHERE d.tier_id = a.tier_id AND (m.subscription_id = a.subscription_id
                         OR m.parent_subscription_id = a.subscription_id)) AS devices
                 FROM subscription_tier_allocations a JOIN subscriptions s
                 ON s.subscription_id = a.subscription_id
                 WHERE s.parent_subscription_id IS NULL";
    let wrong = format!("({slots}) q WHERE slots_used <> devices");
    assert_eq!(
        world.count(&wrong).await,
        0,
        "{:?}",
        world.rows(&format!("SELECT * FROM {wrong}")).await
    );
    let uncounted = "devices d JOIN subscriptions m ON m.subscription_id = d.subscription_id
                     WHERE d.tier_id IS NOT NULL AND NOT EXISTS (SELECT
                     FROM subscription_tier_allocations a
                         WHERE a.subscription_id = coalesce(m.parent_subscription_id,
                         m.subscription_id) AND a.tier_id = d.tier_id)";
    assert_eq!(world.count(uncounted).await, 0, "a held tier has a row to count in");
    let of_addons = "subscription_tier_allocations a JOIN subscriptions s
                     ON s.subscription_id = a.subscription_id
                     WHERE s.parent_subscription_id IS NOT NULL AND a.slots_used <> 0";
    assert_eq!(world.count(of_addons).await, 0);
    let devices = "subscriptions s WHERE active_device_count <> (SELECT count(*) FROM devices d
                   WHERE d.subscription_id = s.subscription_id)";
    assert_eq!(world.count(devices).await, 0);
}

/// Trap 27: as many as fit, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_moves_at_once_as_many_succeed_as_there_is_room() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let (from, to) = (
        subscription(&api, "acme", "MAIN", 100, None).await,
        subscription(&api, "acme", "MAIN", 5, None).await,
    );
    for n in 0..32 {
        api.write(
            "POST",
            DEVICES,
            json!({"tenant_id": "acme", "device_id": format!("D-{n}"), "subscription_id": from}),
        )
        .await
        .expect(201);
    }
    let replies = join_all((0..32).map(|n| {
        let (api, to) = (&api, &to);
        async move {
            api.write(
                "POST",
                &format!("{DEVICES}/D-{n}/subscription"),
                json!({"subscription_id": to}),
            )
            .await
        }
    }))
    .await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 5);
    assert!(
        replies
            .iter()
            .all(|reply| reply.status == 200 || reply.body["code"] == "device_limit_reached")
    );
    // Registrations too, and the same device by many at once.
    let replies = join_all((0..32).map(|n| {
        let api = &api;
        async move {
            api.write(
                "POST",
                DEVICES,
                json!({"tenant_id": "acme", "device_id": format!("NEW-{}", n % 4)}),
            )
            .await
        }
    }))
    .await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 4);
    assert_counts_are_true(&world).await;
}

/// Traps 24 and 25: one device by many, and opposite swaps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_device_is_counted_once_however_many_ask_and_swaps_do_not_deadlock() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = subscription(&api, "acme", "MAIN", 100, None).await;
    for device in ["A", "B"] {
        api.write("POST", DEVICES, json!({"tenant_id": "acme", "device_id": device}))
            .await
            .expect(201);
    }
    let set = async |device: &str, tier: Value| {
        api.write(
            "PUT",
            &format!("{DEVICES}/tier"),
            json!({"device_id": device, "tenant_id": "acme", "tier_id": tier}),
        )
        .await
    };
    let replies = join_all((0..32).map(|_| set("A", json!(1)))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(
        world.count("subscription_audit WHERE event_type = 'OPERATOR_TIER_ASSIGNMENT'").await,
        1
    );
    assert_counts_are_true(&world).await;
    let replies =
        join_all((0..64).map(|n| {
            set(if n % 2 == 0 { "A" } else { "B" }, json!(if n % 4 < 2 { 1 } else { 2 }))
        }))
        .await;
    assert!(
        replies.iter().all(|reply| reply.status == 200),
        "{:?}",
        replies.iter().map(|reply| &reply.body).collect::<Vec<_>>()
    );
    join_all((0..32).map(|_| set("A", Value::Null)))
        .await
        .iter()
        .for_each(|reply| assert_eq!(reply.status, 200));
    assert_counts_are_true(&world).await;
    assert_eq!(
        world
            .row(&format!(
                "SELECT sum(slots_used) AS n FROM subscription_tier_allocations
         WHERE subscription_id = '{main}'"
            ))
            .await["n"],
        1
    );
}

/// Numbers that a seed decides (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % sides as u64).expect("small")
    }
}

/// What should be, kept in lists and counted again at each question.
#[derive(Default)]
struct Naive {
    /// Id: (root, status, device limit).
    subscriptions: BTreeMap<String, (String, &'static str, i64)>,
    slots: BTreeMap<(String, i64), i64>,
    /// Id: (subscription, tier).
    devices: BTreeMap<String, (String, Option<i64>)>,
}

const LIVE: [&str; 3] = ["TRIAL", "ACTIVE", "GRACE"];

impl Naive {
    fn root(&self, id: &str) -> String {
        self.subscriptions[id].0.clone()
    }

    fn counts(&self, id: &str) -> bool {
        LIVE.contains(&self.subscriptions[id].1)
            && LIVE.contains(&self.subscriptions[&self.root(id)].1)
    }

    fn limit(&self, root: &str, tier: i64) -> i64 {
        self.slots
            .iter()
            .filter(|((id, of), _)| *of == tier && self.root(id) == root && self.counts(id))
            .map(|(_, slots)| slots)
            .sum()
    }

    fn used(&self, root: &str, tier: i64) -> i64 {
        i64::try_from(
            self.devices
                .values()
                .filter(|(on, held)| self.root(on) == root && *held == Some(tier))
                .count(),
        )
        .expect("small")
    }

    fn room(&self, root: &str) -> bool {
        let capacity: i64 = self
            .subscriptions
            .iter()
            .filter(|(id, (of, _, _))| of == root && self.counts(id))
            .map(|(_, (_, _, devices))| devices)
            .sum();
        i64::try_from(self.devices.values().filter(|(on, _)| self.root(on) == root).count())
            .expect("small")
            < capacity
    }

    /// The code of the refusal of a move, or none.
    fn refuses_move(&self, device: &str, to: &str) -> Option<&'static str> {
        let (on, tier) = &self.devices[device];
        let root = self.root(to);
        match () {
            () if on == to => None,
            () if !self.counts(to) => Some("subscription_not_live"),
            () if self.root(on) == root => None,
            () if !self.room(&root) => Some("device_limit_reached"),
            () => tier
                .filter(|tier| self.used(&root, *tier) >= self.limit(&root, *tier))
                .map(|_| "no_free_slot"),
        }
    }
}

async fn one_life(world: &World, api: &Api, seed: u64) {
    let name = format!("seed-{seed}");
    tenant(world, &name).await;
    let (mut dice, mut naive) = (Dice(seed), Naive::default());
    let mut ids: Vec<String> = Vec::new();
    for (kind, parent) in [
        ("MAIN", None),
        ("ADDON", Some(0)),
        ("ADDON", Some(0)),
        ("MAIN", None),
        ("ADDON", Some(3)),
        ("TEMPORARY", None),
    ] {
        let limit = i64::try_from(dice.roll(4) + 1).expect("small");
        let parent = parent.map(|index: usize| ids[index].clone());
        let id = subscription(api, &name, kind, limit, parent.as_deref()).await;
        naive
            .subscriptions
            .insert(id.clone(), (parent.unwrap_or_else(|| id.clone()), "ACTIVE", limit));
        ids.push(id);
    }
    for step in 0..40 {
        let id = ids[dice.roll(ids.len())].clone();
        let tier = i64::try_from(dice.roll(3) + 1).expect("small");
        let device = format!("D-{}", dice.roll(8));
        let said = format!("seed {seed}, step {step}");
        match dice.roll(8) {
            0 => {
                let slots = i64::try_from(dice.roll(4)).expect("small");
                let reply = allocate(api, &id, tier, slots).await;
                if reply.status == 409 {
                    let path = format!("{SUBSCRIPTIONS}/{id}/tier-allocations/{tier}");
                    api.write("PUT", &path, json!({"slot_limit": slots})).await.expect(200);
                }
                naive.slots.insert((id, tier), slots);
            }
            1 | 2 => {
                let reply = api
                    .write(
                        "POST",
                        DEVICES,
                        json!({"tenant_id": name, "device_id": device, "subscription_id": id}),
                    )
                    .await;
                let expected = match () {
                    () if naive.devices.contains_key(&device) => 409,
                    () if !naive.counts(&id) || !naive.room(&naive.root(&id)) => 402,
                    () => 201,
                };
                assert_eq!(reply.status, expected, "{said}: {}", reply.body);
                if expected == 201 {
                    naive.devices.insert(device, (id, None));
                }
            }
            3 | 4 if naive.devices.contains_key(&device) => {
                let tier = (dice.roll(4) > 0).then_some(tier);
                let body = json!({"tenant_id": name, "device_id": device, "tier_id": tier});
                api.write("PUT", &format!("{DEVICES}/tier"), body).await.expect(200);
                naive.devices.get_mut(&device).expect("there").1 = tier;
            }
            5 | 6 if naive.devices.contains_key(&device) => {
                let reply = api
                    .write(
                        "POST",
                        &format!("{DEVICES}/{device}/subscription"),
                        json!({"subscription_id": id, "tenant_id": name}),
                    )
                    .await;
                if let Some(code) = naive.refuses_move(&device, &id) {
                    assert_eq!(reply.body["code"], code, "{said}");
                } else {
                    assert_eq!(reply.status, 200, "{said}: {}", reply.body);
                    naive.devices.get_mut(&device).expect("there").0 = id;
                }
            }
            7 => {
                let status = ["ACTIVE", "GRACE", "SUSPENDED", "TRIAL"][dice.roll(4)];
                api.write("PATCH", &format!("{SUBSCRIPTIONS}/{id}"), json!({"status": status}))
                    .await
                    .expect(200);
                naive.subscriptions.get_mut(&id).expect("there").1 = status;
            }
            _ => {}
        }
        let root = naive.root(&ids[dice.roll(ids.len())]);
        let shown = api
            .get(Who::Operator, &format!("{SUBSCRIPTIONS}/{root}/tier-allocations"))
            .await
            .expect(200);
        for row in shown["allocations"].as_array().expect("a list") {
            let tier = row["tier_id"].as_i64().expect("a tier");
            let (limit, used) = (naive.limit(&root, tier), naive.used(&root, tier));
            let expected = json!([limit, used, used, (limit - used).max(0), used > limit]);
            let numbers = json!([
                row["effective_limit"],
                row["slots_used"],
                row["actual_count"],
                row["slots_available"],
                row["over_limit"]
            ]);
            assert_eq!(numbers, expected, "{said}, tier {tier} of {root}");
        }
    }
}

/// Pooled capacity against the naive model, over random add-ons, suspensions, slots, moves and
/// overrides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_familys_capacity_is_what_a_naive_model_counts() {
    let world = World::new().await;
    let api = world.api().await;
    for seeds in (0..24_u64).collect::<Vec<_>>().chunks(8) {
        join_all(seeds.iter().map(|seed| one_life(&world, &api, *seed))).await;
    }
    assert_counts_are_true(&world).await;
}

/// The same race through the running functions, four instances of the one that decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_the_running_functions_ten_of_64_get_the_last_slots_and_places() {
    let api = Api::of_stack();
    let tenant = format!("race-{}", shared::base::clock::Clock::system().now().as_microsecond());
    api.write("POST", "/api/v1/operator/tenants", json!({"tenant_id": tenant, "name": "Race"}))
        .await
        .expect(201);
    let main = subscription(&api, &tenant, "MAIN", 64, None).await;
    allocate(&api, &main, 1, 10).await.expect(201);
    let who = Who::Customer(&tenant);
    for n in 0..64 {
        api.send(
            who,
            "POST",
            "/api/v1/customer/devices",
            &[],
            Some(json!({"device_id": format!("D-{n}")})),
        )
        .await
        .expect(201);
    }
    let replies = join_all((0..64).map(|n| {
        let api = &api;
        async move {
            api.send(
                who,
                "PUT",
                &format!("/api/v1/customer/devices/D-{n}/tier"),
                &[],
                Some(json!({"tier_id": 1})),
            )
            .await
        }
    }))
    .await;
    let count = |status: u16| replies.iter().filter(|reply| reply.status == status).count();
    assert_eq!(
        (count(200), count(402)),
        (10, 54),
        "{:?}",
        replies.iter().map(|reply| reply.status).collect::<Vec<_>>()
    );
    let seen = api
        .get(Who::Operator, &format!("{SUBSCRIPTIONS}/{main}/tier-allocations"))
        .await
        .expect(200);
    assert_eq!(
        (&seen["allocations"][0]["slots_used"], &seen["allocations"][0]["actual_count"]),
        (&json!(10), &json!(10))
    );
    api.write("PATCH", &format!("{SUBSCRIPTIONS}/{main}"), json!({"device_limit": 74}))
        .await
        .expect(200);
    let replies = join_all((0..64).map(|n| {
        let api = &api;
        async move {
            api.send(
                who,
                "POST",
                "/api/v1/customer/devices",
                &[],
                Some(json!({"device_id": format!("N-{n}")})),
            )
            .await
            .status
        }
    }))
    .await;
    assert_eq!(replies.iter().filter(|status| **status == 201).count(), 10);
    assert_eq!(replies.iter().filter(|status| **status == 402).count(), 54);
}
