//! What an operator types, as docs/catalogue.md shows it: against the running functions, with
//! tokens of the stack's Keycloak.

use serde_json::{Value, json};
use tests::api::{Api, Who};
use tests::text;

/// A name that no other run on this stack has used.
fn unique(name: &str) -> String {
    format!("{name}-{}", shared::base::clock::Clock::system().now().as_microsecond())
}

/// The catalogue's life: list plans, add one, set what it brings, change it, read the trail; and
/// the same of device tiers.
#[tokio::test]
async fn an_operator_keeps_the_catalogue() {
    let api = Api::of_stack();
    let (plans, tiers) = ("/api/v1/operator/plans", "/api/v1/operator/device-tiers");
    let began = shared::base::clock::Clock::system().now();
    let team = unique("team");

    let list = api.get(Who::Admin, &format!("{plans}?limit=500")).await.expect(200);
    let pro = list["plans"]
        .as_array()
        .expect("plans")
        .iter()
        .find(|plan| plan["plan_id"] == "pro")
        .expect("the seed's plan")
        .clone();
    assert_eq!(
        (&pro["device_limit"], &pro["limits"]["users"], &pro["stripe_price_id"]),
        (&json!(260), &json!(5), &json!("price_pro_month"))
    );

    let limits = json!({"alert_rules": 50, "notification_channels": 10, "users": 10});
    let body = json!({"plan_id": team, "name": "Team", "device_limit": 50, "limits": limits,
    "sort_order": 2});
    let created = api.write("POST", plans, body).await.expect(201);
    assert_eq!(
        (&created["plan_id"], &created["limits"], &created["is_active"]),
        (&json!(team), &limits, &json!(true))
    );

    let defaults = json!([{"tier_id": 1, "slot_limit": 40}, {"tier_id": 2, "slot_limit": 10},
        {"tier_id": 3, "slot_limit": 0}]);
    let set =
        api.write("PUT", &format!("{plans}/{team}/tier-defaults"), defaults).await.expect(200);
    assert_eq!((&set["status"], &set["plan_id"]), (&json!("ok"), &json!(team)));
    let slots: Vec<_> = set["tier_defaults"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| (&entry["name"], &entry["slot_limit"]))
        .collect();
    assert_eq!(
        slots,
        [
            (&json!("basic"), &json!(40)),
            (&json!("standard"), &json!(10)),
            (&json!("premium"), &json!(0))
        ]
    );

    let limits = json!({"alert_rules": 75, "notification_channels": 15, "users": 15});
    let updated = api
        .write("PUT", &format!("{plans}/{team}"), json!({"device_limit": 75, "limits": limits}))
        .await
        .expect(200);
    assert_eq!(
        (&updated["status"], &updated["plan_id"], &updated["device_limit"], &updated["limits"]),
        (&json!("ok"), &json!(team), &json!(75), &limits)
    );

    let seeded = api.get(Who::Operator, tiers).await.expect(200);
    let names: Vec<_> = seeded["tiers"]
        .as_array()
        .expect("tiers")
        .iter()
        .take(3)
        .map(|tier| (&tier["tier_id"], &tier["name"]))
        .collect();
    assert_eq!(
        names,
        [
            (&json!(1), &json!("basic")),
            (&json!(2), &json!("standard")),
            (&json!(3), &json!("premium"))
        ]
    );
    let gold = unique("gold");
    let tier = api
        .write(
            "POST",
            tiers,
            json!({"name": gold, "display_name": "Gold", "features": {"retention_days": 365},
        "sort_order": 9}),
        )
        .await
        .expect(201);
    let path = format!("{tiers}/{}", tier["tier_id"]);
    // Retired again, so that a stack that goes on has the three tiers for sale.
    assert_eq!(
        api.write("PUT", &path, json!({"is_active": false})).await.expect(200)["is_active"],
        false
    );

    let trail = api
        .get(Who::Operator, &format!("/api/v1/operator/audit?from={began}&limit=500"))
        .await
        .expect(200);
    let ours: Vec<&Value> = trail["audit"]
        .as_array()
        .expect("rows")
        .iter()
        .filter(|row| [&team, &gold].iter().any(|name| row.to_string().contains(*name)))
        .collect();
    let types: Vec<String> = ours.iter().map(|row| text(&row["event_type"])).collect();
    assert_eq!(
        types,
        [
            "DEVICE_TIER_UPDATED",
            "DEVICE_TIER_CREATED",
            "PLAN_UPDATED",
            "PLAN_TIER_DEFAULTS_SET",
            "PLAN_CREATED"
        ]
    );
    assert!(
        ours.iter().all(|row| row["actor_type"] == "admin"
            && row["ip_address"] == "127.0.0.1"
            && row["new_state"].is_object()),
        "{ours:?}"
    );
    let update = ours.iter().find(|row| row["event_type"] == "PLAN_UPDATED").expect("a row");
    assert_eq!(
        (&update["previous_state"]["device_limit"], &update["new_state"]["device_limit"]),
        (&json!(50), &json!(75))
    );
}

/// docs/subscriptions.md, "By hand": a customer who pays by wire transfer, from nothing to a device
/// with a tier, then adjusted.
#[tokio::test]
async fn an_operator_serves_a_customer_who_pays_by_wire_transfer() {
    let api = Api::of_stack();
    let tenant = unique("offline-corp");
    let subscriptions = "/api/v1/operator/subscriptions";
    let body = json!({"tenant_id": tenant, "name": "Offline Corp", "industry": "Manufacturing",
    "support_tier": "business"});
    let made = api.write("POST", "/api/v1/operator/tenants", body).await.expect(201);
    assert_eq!(
        (&made["tenant_id"], &made["industry"], &made["support_tier"], &made["status"]),
        (&json!(tenant), &json!("Manufacturing"), &json!("business"), &json!("ACTIVE"))
    );

    let email = format!("admin@{tenant}.example");
    let user = api
        .write("POST", "/api/v1/operator/users", json!({"tenant_id": tenant, "email": email}))
        .await
        .expect(201);
    let mail = api
        .send(
            Who::Admin,
            "POST",
            &format!("/api/v1/operator/users/{}/send-welcome-email", text(&user["id"])),
            &[],
            None,
        )
        .await
        .expect(200);
    assert_eq!(mail, json!({"status": "ok", "message": "Password-set email sent"}));

    let body = json!({"tenant_id": tenant, "subscription_type": "MAIN", "device_limit": 100,
    "plan_id": "pro", "term_days": 365});
    let created = api.write("POST", subscriptions, body).await.expect(201);
    let listed =
        api.get(Who::Operator, &format!("{subscriptions}?tenant_id={tenant}")).await.expect(200);
    let id = text(&listed["subscriptions"][0]["subscription_id"]);
    assert_eq!(
        (&listed["count"], &created["subscription_id"], &created["status"]),
        (&json!(1), &json!(id), &json!("ACTIVE"))
    );

    let sync = api
        .send(Who::Admin, "POST", &format!("{subscriptions}/{id}/sync-tier-allocations"), &[], None)
        .await
        .expect(200);
    let plans = [(1, 200), (2, 50), (3, 10)]
        .map(|(tier, slots)| json!({"tier_id": tier, "slot_limit": slots}));
    assert_eq!(
        (&sync["status"], &sync["plan_id"], &sync["allocations_synced"]),
        (&json!("ok"), &json!("pro"), &json!(plans))
    );
    let list =
        api.get(Who::Operator, &format!("{subscriptions}/{id}/tier-allocations")).await.expect(200);
    let available: Vec<_> = list["allocations"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| row["slots_available"].clone())
        .collect();
    assert_eq!(
        (&list["tenant_id"], &list["plan_id"], available),
        (&json!(tenant), &json!("pro"), vec![json!(200), json!(50), json!(10)])
    );

    let put = api
        .write(
            "PUT",
            &format!("{subscriptions}/{id}/tier-allocations/2"),
            json!({"slot_limit": 75}),
        )
        .await
        .expect(200);
    assert_eq!(
        (&put["status"], &put["changes"]),
        (&json!("ok"), &json!({"slot_limit": {"old": 50, "new": 75}}))
    );
    api.write(
        "POST",
        "/api/v1/operator/devices",
        json!({"tenant_id": tenant, "device_id": "DEV-001"}),
    )
    .await
    .expect(201);
    let body = json!({"device_id": "DEV-001", "tenant_id": tenant, "tier_id": 2});
    let set = api.write("PUT", "/api/v1/operator/devices/tier", body).await.expect(200);
    assert_eq!(
        set,
        json!({"status": "ok", "device_id": "DEV-001", "old_tier_id": null, "new_tier_id": 2})
    );
    let reconciled = api
        .send(Who::Admin, "POST", &format!("{subscriptions}/{id}/reconcile-tiers"), &[], None)
        .await
        .expect(200);
    assert_eq!(
        (&reconciled["corrections"], &reconciled["message"]),
        (&json!([]), &json!("All slot counts are accurate"))
    );

    let trail = api
        .get(Who::Operator, &format!("/api/v1/operator/audit?tenant_id={tenant}"))
        .await
        .expect(200);
    let rows = trail["audit"].as_array().expect("rows");
    let types: Vec<String> = rows.iter().rev().map(|row| text(&row["event_type"])).collect();
    let expected = [
        "TENANT_CREATED",
        "USER_CREATED",
        "WELCOME_EMAIL_SENT",
        "SUBSCRIPTION_CREATED",
        "TIER_ALLOCATIONS_SYNCED",
        "TIER_ALLOCATION_UPDATED",
        "DEVICE_REGISTERED",
        "OPERATOR_TIER_ASSIGNMENT",
    ];
    assert_eq!(types, expected);
    let actor = &rows[0]["actor_id"];
    assert!(
        rows.iter().all(|row| row["actor_type"] == "admin"
            && row["actor_id"] == *actor
            && row["ip_address"] == "127.0.0.1"),
        "{rows:?}"
    );
    let of =
        |event_type: &str| rows.iter().find(|row| row["event_type"] == event_type).expect("a row");
    assert_eq!(
        of("TIER_ALLOCATION_UPDATED")["previous_state"],
        json!({"slot_limit": 50, "slots_used": 0, "counted_by_hand": false})
    );
    assert_eq!(
        of("TIER_ALLOCATION_UPDATED")["new_state"],
        json!({"slot_limit": 75, "slots_used": 0, "counted_by_hand": false})
    );
    let assignment = of("OPERATOR_TIER_ASSIGNMENT");
    let states =
        (&assignment["previous_state"], &assignment["new_state"], &assignment["device_id"]);
    assert_eq!(states, (&json!({"tier_id": null}), &json!({"tier_id": 2}), &json!("DEV-001")));
    assert_eq!(of("SUBSCRIPTION_CREATED")["new_state"]["subscription_id"], json!(id));
}

/// docs/subscriptions.md, "By hand", the second part: another plan, slots, counts, one device, the
/// term, a pause, an ADDON, the end.
#[tokio::test]
async fn an_operator_adjusts_what_a_customer_has() {
    let api = Api::of_stack();
    let tenant = unique("adjusted-corp");
    let operator = "/api/v1/operator";
    api.write(
        "POST",
        &format!("{operator}/tenants"),
        json!({"tenant_id": tenant, "name": "Adjusted Corp"}),
    )
    .await
    .expect(201);
    let body = json!({"tenant_id": tenant, "subscription_type": "MAIN", "device_limit": 100,
    "plan_id": "pro", "term_days": 365});
    let id = text(&api.create_subscription(body).await["subscription_id"]);
    let subscription = format!("{operator}/subscriptions/{id}");
    api.send(Who::Admin, "POST", &format!("{subscription}/sync-tier-allocations"), &[], None)
        .await
        .expect(200);
    api.write(
        "POST",
        &format!("{operator}/devices"),
        json!({"tenant_id": tenant, "device_id": "DEV-001"}),
    )
    .await
    .expect(201);

    let patch = async |body: Value| api.write("PATCH", &subscription, body).await.expect(200);
    let plan = patch(json!({"plan_id": "starter", "notes": "Asked for less, by telephone"})).await;
    assert_eq!((&plan["event_type"], &plan["device_limit"]), (&json!("PLAN_CHANGED"), &json!(30)));
    let slots = api
        .write("PUT", &format!("{subscription}/tier-allocations/2"), json!({"slot_limit": 8}))
        .await
        .expect(200);
    assert_eq!(slots["changes"], json!({"slot_limit": {"old": 5, "new": 8}}));
    for query in ["?dry_run=true", ""] {
        let counted = api
            .send(Who::Admin, "POST", &format!("{subscription}/reconcile-tiers{query}"), &[], None)
            .await
            .expect(200);
        assert_eq!(counted["message"], "All slot counts are accurate");
    }
    let body = json!({"device_id": "DEV-001", "tenant_id": tenant, "tier_id": 3,
        "notes": "Until the pilot ends"});
    api.write("PUT", &format!("{operator}/devices/tier"), body).await.expect(200);
    let term =
        patch(json!({"term_end": "2030-01-01T00:00:00Z", "transaction_ref": "wire 4711"})).await;
    assert_eq!(
        (&term["event_type"], &term["term_end"]),
        (&json!("TERM_EXTENDED"), &json!("2030-01-01T00:00:00Z"))
    );
    assert_eq!(
        patch(json!({"status": "SUSPENDED", "notes": "Invoice 4712 is open"})).await["event_type"],
        "STATUS_SUSPENDED"
    );
    assert_eq!(patch(json!({"status": "ACTIVE"})).await["event_type"], "STATUS_ACTIVE");
    let body = json!({"tenant_id": tenant, "subscription_type": "ADDON", "device_limit": 10,
    "parent_subscription_id": id});
    let addon = api.write("POST", &format!("{operator}/subscriptions"), body).await.expect(201);
    assert_eq!(addon["term_end"], "2030-01-01T00:00:00Z");
    let addon_slots =
        format!("{operator}/subscriptions/{}/tier-allocations", text(&addon["subscription_id"]));
    api.write("POST", &addon_slots, json!({"tier_id": 3, "slot_limit": 10})).await.expect(201);
    let list =
        api.get(Who::Operator, &format!("{subscription}/tier-allocations")).await.expect(200);
    let premium = list["allocations"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|row| row["tier_id"] == 3)
        .expect("premium")
        .clone();
    let shown = (
        &premium["slot_limit"],
        &premium["addon_slots"],
        &premium["slots_used"],
        &premium["slots_available"],
    );
    assert_eq!(shown, (&json!(0), &json!(10), &json!(1), &json!(9)));
    let ended = api
        .send(Who::Admin, "DELETE", &format!("{subscription}?force=true"), &[], None)
        .await
        .expect(200);
    assert_eq!(ended["expired"], json!([id, addon["subscription_id"]]));
    let device =
        api.get(Who::Operator, &format!("{operator}/devices?tenant_id={tenant}")).await.expect(200)
            ["devices"][0]
            .clone();
    assert_eq!(
        (&device["subscription_id"], &device["tier_id"]),
        (&json!(id), &json!(3)),
        "it stays where it is"
    );

    let trail =
        api.get(Who::Operator, &format!("{operator}/audit?tenant_id={tenant}")).await.expect(200);
    let types: Vec<String> = trail["audit"]
        .as_array()
        .expect("rows")
        .iter()
        .rev()
        .map(|row| text(&row["event_type"]))
        .collect();
    let expected = [
        "TENANT_CREATED",
        "SUBSCRIPTION_CREATED",
        "TIER_ALLOCATIONS_SYNCED",
        "DEVICE_REGISTERED",
        "PLAN_CHANGED",
        "TIER_ALLOCATION_UPDATED",
        "OPERATOR_TIER_ASSIGNMENT",
        "TERM_EXTENDED",
        "STATUS_SUSPENDED",
        "STATUS_ACTIVE",
        "SUBSCRIPTION_CREATED",
        "TIER_ALLOCATION_CREATED",
        "STATUS_EXPIRED",
        "STATUS_EXPIRED",
    ];
    assert_eq!(types, expected);
}
