//! `device-tier`, the operators' routes: devices by hand.

use serde_json::{Value, json};
use tests::api::{Api, Who};
use tests::{World, text};

const DEVICES: &str = "/api/v1/operator/devices";

async fn tenant(world: &World, id: &str) {
    world
        .db
        .execute("INSERT INTO tenants (tenant_id, name) VALUES ($1, $1)", &[&id])
        .await
        .expect("a tenant");
}

async fn subscription(api: &Api, tenant: &str, kind: &str, devices: i64, days: i64) -> String {
    let body = json!({"tenant_id": tenant, "subscription_type": kind, "device_limit": devices,
    "term_days": days});
    text(&api.create_subscription(body).await["subscription_id"])
}

async fn register(api: &Api, tenant: &str, device: &str) -> tests::api::Reply {
    api.write("POST", DEVICES, json!({"tenant_id": tenant, "device_id": device})).await
}

async fn slots(api: &Api, subscription: &str, tier: i64) -> Value {
    let list = api
        .get(
            Who::Operator,
            &format!("/api/v1/operator/subscriptions/{subscription}/tier-allocations"),
        )
        .await
        .expect(200);
    list["allocations"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|row| row["tier_id"] == tier)
        .cloned()
        .unwrap_or(Value::Null)
}

async fn allocate(api: &Api, subscription: &str, tier: i64, slots: i64) {
    let path = format!("/api/v1/operator/subscriptions/{subscription}/tier-allocations");
    api.write("POST", &path, json!({"tier_id": tier, "slot_limit": slots})).await.expect(201);
}

async fn count(world: &World, subscription: &str) -> i64 {
    world
        .row(&format!(
            "SELECT active_device_count AS n FROM subscriptions
                        WHERE subscription_id = '{subscription}'"
        ))
        .await["n"]
        .as_i64()
        .expect("a number")
}

async fn audit(world: &World) -> Vec<String> {
    let rows = world
        .rows(
            "SELECT event_type, device_id FROM subscription_audit
                           WHERE device_id IS NOT NULL ORDER BY id",
        )
        .await;
    rows.iter()
        .map(|row| format!("{} {}", text(&row["event_type"]), text(&row["device_id"])))
        .collect()
}

#[tokio::test]
async fn a_device_goes_where_a_customers_would_or_where_the_operator_says() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let early = register(&api, "acme", "DEV-0").await.expect(201);
    assert_eq!(
        (&early["subscription_id"], &early["status"]),
        (&Value::Null, &json!("ACTIVE")),
        "no subscription yet"
    );
    let temporary = subscription(&api, "acme", "TEMPORARY", 1, 900).await;
    let trial = subscription(&api, "acme", "TRIAL", 1, 14).await;
    let short = subscription(&api, "acme", "MAIN", 1, 100).await;
    let long = subscription(&api, "acme", "MAIN", 1, 200).await;
    let mut places = Vec::new();
    for n in 1..=4 {
        places.push(text(
            &register(&api, "acme", &format!("DEV-{n}")).await.expect(201)["subscription_id"],
        ));
    }
    assert_eq!(
        places,
        [&long, &short, &trial, &temporary].map(String::as_str),
        "MAIN, that ends last, then TRIAL, then TEMPORARY"
    );
    assert_eq!(
        register(&api, "acme", "DEV-5").await.problem(402, "device_limit_reached"),
        "No room for another device. Used: 4/4. Upgrade your plan or remove a device."
    );
    let nowhere = json!({"tenant_id": "acme", "device_id": "DEV-6", "subscription_id": null,
        "name": "Pump 6", "site_id": "north"});
    let device = api.write("POST", DEVICES, nowhere).await.expect(201);
    assert_eq!(
        (&device["subscription_id"], &device["name"], &device["site_id"]),
        (&Value::Null, &json!("Pump 6"), &json!("north"))
    );
    let there = async |device: &str, subscription: &str| {
        api.write(
            "POST",
            DEVICES,
            json!({"tenant_id": "acme", "device_id": device, "subscription_id": subscription}),
        )
        .await
    };
    there("DEV-7", &trial).await.problem(402, "device_limit_reached");
    api.write(
        "PATCH",
        &format!("/api/v1/operator/subscriptions/{trial}"),
        json!({"status": "SUSPENDED"}),
    )
    .await
    .expect(200);
    assert_eq!(
        there("DEV-7", &trial).await.problem(402, "subscription_not_live"),
        "The subscription is SUSPENDED."
    );
    tenant(&world, "bolt").await;
    let others = subscription(&api, "bolt", "MAIN", 9, 9).await;
    there("DEV-7", &others).await.problem(404, "subscription_not_found");
    there("DEV-7", "SUB-1999-1").await.problem(404, "subscription_not_found");
    assert_eq!(
        register(&api, "acme", "DEV-1").await.problem(409, "device_exists"),
        "Device 'DEV-1' already exists"
    );
    register(&api, "nobody", "DEV-1").await.problem(404, "tenant_not_found");
    register(&api, "bolt", "DEV-1").await.expect(201);
    assert_eq!(
        register(&api, "acme", "-bad").await.faults(),
        ["device_id must match ^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$"]
    );
    let registered = audit(&world).await;
    assert_eq!(registered.len(), 7, "{registered:?}");
    assert!(
        world.rows("SELECT FROM devices WHERE device_id IN ('DEV-5', 'DEV-7')").await.is_empty(),
        "what was refused left nothing"
    );
}

#[tokio::test]
async fn an_override_knows_no_limit_and_counts_all_the_same() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = subscription(&api, "acme", "MAIN", 10, 365).await;
    register(&api, "acme", "DEV-001").await.expect(201);
    let set = async |device: &str, tier: Value| {
        api.write(
            "PUT",
            &format!("{DEVICES}/tier"),
            json!({"device_id": device, "tenant_id": "acme", "tier_id": tier}),
        )
        .await
    };
    let answer = set("DEV-001", json!(2)).await.expect(200);
    assert_eq!(
        answer,
        json!({"status": "ok", "device_id": "DEV-001", "old_tier_id": null, "new_tier_id": 2})
    );
    let standard = slots(&api, &main, 2).await;
    assert_eq!(
        (&standard["slot_limit"], &standard["slots_used"], &standard["over_limit"]),
        (&json!(0), &json!(1), &json!(true))
    );
    set("DEV-001", json!(2)).await.expect(200);
    assert_eq!(set("DEV-001", json!(1)).await.expect(200)["old_tier_id"], 2);
    assert_eq!(
        (&slots(&api, &main, 2).await["slots_used"], &slots(&api, &main, 1).await["slots_used"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(set("DEV-001", Value::Null).await.expect(200)["new_tier_id"], Value::Null);
    assert_eq!(slots(&api, &main, 1).await["slots_used"], 0);
    assert_eq!(set("DEV-404", json!(1)).await.problem(404, "device_not_found"), "Device not found");
    assert_eq!(
        set("DEV-001", json!(99)).await.problem(404, "tier_not_found"),
        "Device tier not found"
    );
    api.write(
        "POST",
        DEVICES,
        json!({"tenant_id": "acme", "device_id": "LOOSE", "subscription_id": null}),
    )
    .await
    .expect(201);
    assert_eq!(
        set("LOOSE", json!(1)).await.problem(400, "no_subscription"),
        "Device has no subscription assigned. Assign a subscription first."
    );
    set("LOOSE", Value::Null).await.expect(200);
    let expected = [
        "DEVICE_REGISTERED DEV-001",
        "OPERATOR_TIER_ASSIGNMENT DEV-001",
        "OPERATOR_TIER_ASSIGNMENT DEV-001",
        "OPERATOR_TIER_ASSIGNMENT DEV-001",
        "DEVICE_REGISTERED LOOSE",
    ];
    assert_eq!(audit(&world).await, expected, "none for what was so already");
}

/// Trap 27.
#[tokio::test]
async fn a_moved_device_takes_its_slot_with_it_or_stays() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let (from, to) = (
        subscription(&api, "acme", "MAIN", 10, 300).await,
        subscription(&api, "acme", "MAIN", 2, 200).await,
    );
    allocate(&api, &from, 2, 5).await;
    for n in 1..=4 {
        register(&api, "acme", &format!("DEV-{n}")).await.expect(201);
        if n <= 2 {
            api.write(
                "PUT",
                &format!("{DEVICES}/tier"),
                json!({"device_id": format!("DEV-{n}"), "tenant_id": "acme", "tier_id": 2}),
            )
            .await
            .expect(200);
        }
    }
    let put = async |device: &str, to: &str| {
        api.write(
            "POST",
            &format!("{DEVICES}/{device}/subscription"),
            json!({"subscription_id": to, "notes": "moved"}),
        )
        .await
    };
    let detail = put("DEV-1", &to).await.problem(409, "no_free_slot");
    assert!(detail.contains("Used: 0/0"), "{detail}");
    allocate(&api, &to, 2, 1).await;
    let moved = put("DEV-1", &to).await.expect(200);
    assert_eq!(
        moved,
        json!({"device_id": "DEV-1", "subscription_id": to, "previous_subscription_id": from})
    );
    assert_eq!(
        (&slots(&api, &from, 2).await["slots_used"], &slots(&api, &to, 2).await["slots_used"]),
        (&json!(1), &json!(1))
    );
    put("DEV-2", &to).await.problem(409, "no_free_slot");
    put("DEV-1", &to).await.expect(200);
    put("DEV-3", &to).await.expect(200);
    assert_eq!(
        put("DEV-4", &to).await.problem(400, "device_limit_reached"),
        "Subscription at device limit"
    );
    assert_eq!((count(&world, &from).await, count(&world, &to).await), (2, 2));
    // Inside one family there is no limit to meet, and nothing to count but where the device is.
    let addon = json!({"tenant_id": "acme", "subscription_type": "ADDON", "device_limit": 1,
    "parent_subscription_id": to});
    let addon = text(&api.create_subscription(addon).await["subscription_id"]);
    put("DEV-1", &addon).await.expect(200);
    put("DEV-3", &addon).await.expect(200);
    assert_eq!(
        (
            count(&world, &to).await,
            count(&world, &addon).await,
            &slots(&api, &to, 2).await["slots_used"]
        ),
        (0, 2, &json!(1))
    );
    for status in ["SUSPENDED", "EXPIRED"] {
        world
            .db
            .execute(
                "UPDATE subscriptions SET status = $2 WHERE subscription_id = $1",
                &[&to, &status],
            )
            .await
            .expect("an update");
        for target in [&to, &addon] {
            assert_eq!(
                put("DEV-4", target).await.problem(400, "subscription_not_live"),
                format!("Cannot assign to {status} subscription")
            );
        }
    }
    put("DEV-404", &from).await.problem(404, "device_not_found");
    put("DEV-4", "SUB-1999-1").await.problem(404, "subscription_not_found");
    tenant(&world, "bolt").await;
    let others = subscription(&api, "bolt", "MAIN", 9, 9).await;
    assert_eq!(
        put("DEV-4", &others).await.problem(400, "subscription_of_another_tenant"),
        "Subscription belongs to different tenant"
    );
    // Two tenants with a device of one name.
    register(&api, "bolt", "DEV-4").await.expect(201);
    put("DEV-4", &from).await.problem(409, "device_ambiguous");
    let of_bolt = json!({"subscription_id": others, "tenant_id": "bolt"});
    api.write("POST", &format!("{DEVICES}/DEV-4/subscription"), of_bolt).await.expect(200);
    assert_eq!(
        audit(&world).await.iter().filter(|row| row.starts_with("DEVICE_REASSIGNED")).count(),
        4
    );
}

#[tokio::test]
async fn devices_are_listed_by_any_filter_and_page() {
    let world = World::new().await;
    let api = world.api().await;
    for id in ["acme", "bolt"] {
        tenant(&world, id).await;
        subscription(&api, id, "MAIN", 10, 300).await;
        for n in 1..=3 {
            register(&api, id, &format!("DEV-{n}")).await.expect(201);
        }
    }
    api.write(
        "PUT",
        &format!("{DEVICES}/tier"),
        json!({"device_id": "DEV-2", "tenant_id": "bolt", "tier_id": 1}),
    )
    .await
    .expect(200);
    let ids = async |query: &str| {
        let answer = api.get(Who::Operator, &format!("{DEVICES}?{query}")).await.expect(200);
        answer["devices"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|device| format!("{}/{}", text(&device["tenant_id"]), text(&device["device_id"])))
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("tenant_id=acme").await, ["acme/DEV-1", "acme/DEV-2", "acme/DEV-3"]);
    assert_eq!(ids("tier_id=1").await, ["bolt/DEV-2"]);
    assert_eq!(ids("device_id=DEV-2").await, ["acme/DEV-2", "bolt/DEV-2"], "whose is it?");
    assert_eq!(ids("site_id=north").await, [""; 0]);
    let path = "/api/v1/operator/tenants/acme/devices/DEV-3";
    api.write("PATCH", path, json!({"site_id": "north"})).await.expect(200);
    assert_eq!(ids("site_id=north&tenant_id=acme").await, ["acme/DEV-3"]);
    for (who, count) in [("acme", 1), ("bolt", 0)] {
        let own = "/api/v1/customer/devices?site_id=north";
        assert_eq!(api.get(Who::Customer(who), own).await.expect(200)["count"], count, "{who}");
    }
    assert_eq!(ids("status=DECOMMISSIONED").await, [""; 0]);
    let page = api.get(Who::Operator, &format!("{DEVICES}?limit=4")).await.expect(200);
    assert_eq!(
        ids(&format!("cursor={}", text(&page["next_cursor"]))).await,
        ["bolt/DEV-2", "bolt/DEV-3"]
    );
    let device =
        api.get(Who::Operator, &format!("{DEVICES}?tier_id=1")).await.expect(200)["devices"][0]
            .clone();
    assert_eq!(
        (&device["tier_name"], &device["tier_display_name"]),
        (&json!("basic"), &json!("Basic"))
    );
}
