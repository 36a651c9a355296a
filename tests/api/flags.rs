//! `operations`: flags, and how an operator ends one.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::{Value, json};
use tests::api::{Api, SOURCE_IP, Who};
use tests::{World, payer, text};

const FLAGS: &str = "/api/v1/operator/flags";

/// A checkout whose plan does not resolve, with its flag.
async fn unresolved(world: &World, api: &Api, company: &str) -> Value {
    let session = world.checkout(
        "price_unmapped",
        &[("company_name", company), ("admin_email", "jane@acme.example")],
    );
    world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
    world.receive(&[&world.event("checkout.session.completed")]).await;
    api.get(Who::Operator,
        &format!("{FLAGS}?kind=plan_unresolved&limit=1")).await.expect(200)["flags"][0].clone()
}

/// One of no tenant, raised `ago` (an interval), with its number.
async fn raised(world: &World, kind: &str, ago: &str) -> i64 {
    let sql = "INSERT INTO flags (kind, detail, created_at)
               VALUES ($1, 'look', now() - $2::text::interval) RETURNING flag_id";
    world.db.query_one(sql, &[&kind, &ago]).await.expect("raised").get(0)
}

async fn resolve(api: &Api, id: impl std::fmt::Display, note: &str) -> tests::api::Reply {
    api.write("POST", &format!("{FLAGS}/{id}/resolve"), json!({"note": note})).await
}

async fn kinds(api: &Api, query: &str) -> Vec<String> {
    let answer = api.get(Who::Operator, &format!("{FLAGS}{query}")).await.expect(200);
    let flags = answer["flags"].as_array().expect("a list");
    assert_eq!(answer["count"], flags.len());
    flags.iter().map(|flag| text(&flag["kind"])).collect()
}

#[tokio::test]
async fn a_flag_is_read_resolved_with_a_note_and_audited() {
    let world = World::new().await;
    let api = world.api().await;
    let flag = unresolved(&world, &api, "Acme").await;
    let event = world.event("checkout.session.completed");
    assert_eq!(
        (&flag["kind"], &flag["tenant_id"], &flag["stripe_event_id"]),
        (&json!("plan_unresolved"), &json!("acme"), &event["id"])
    );
    assert!(
        text(&flag["subscription_id"]).starts_with("SUB-")
            && text(&flag["created_at"]).ends_with('Z'),
        "{flag}"
    );
    let path = format!("{FLAGS}/{}", flag["flag_id"]);
    assert_eq!(api.get(Who::Operator, &path).await.expect(200), flag);
    let unknown = api.get(Who::Operator, &format!("{FLAGS}/999999")).await;
    assert_eq!(unknown.problem(404, "flag_not_found"), "Flag not found");
    for open in ["resolved_at", "resolved_by", "resolution_note"] {
        assert_eq!(flag[open], Value::Null, "{open}");
    }

    let resolved = resolve(&api, &flag["flag_id"], "Set to pro by telephone").await.expect(200);
    let audit =
        api.get(Who::Operator, "/api/v1/operator/audit?event_type=FLAG_RESOLVED").await.expect(200);
    assert_eq!(audit["count"], 1);
    let row = &audit["audit"][0];
    let mut expected = flag.clone();
    for (name, value) in [
        ("resolved_at", &row["event_timestamp"]),
        ("resolved_by", &row["actor_id"]),
        ("resolution_note", &json!("Set to pro by telephone")),
    ] {
        expected[name] = value.clone();
    }
    assert_eq!(resolved, expected);
    assert_eq!((&row["previous_state"], &row["new_state"]), (&flag, &resolved));
    assert_eq!((&row["actor_type"], &row["ip_address"]), (&json!("admin"), &json!(SOURCE_IP)));
    for of in ["tenant_id", "subscription_id", "stripe_event_id"] {
        assert_eq!(row[of], flag[of], "{of}");
    }
    assert_eq!(kinds(&api, "").await, [""; 0], "it waits for no one any more");
    let listed =
        api.get(Who::Operator, &format!("{FLAGS}?status=resolved")).await.expect(200)["flags"][0]
            .clone();
    assert_eq!(listed, resolved);
}

#[tokio::test]
async fn every_refusal_of_a_resolution_is_named_and_changes_nothing() {
    let world = World::new().await;
    let api = world.api().await;
    let id = raised(&world, "second_customer", "1 day").await;
    for none in ["1000000", "0", "-1", "9223372036854775807"] {
        assert_eq!(resolve(&api, none, "x").await.problem(404, "flag_not_found"), "Flag not found");
    }
    for malformed in ["x", "1.5", "9223372036854775808", "%20"] {
        resolve(&api, malformed, "x").await.problem(404, "not_found");
    }
    let with = async |body: Value| {
        api.write("POST", &format!("{FLAGS}/{id}/resolve"), body).await.faults()
    };
    assert_eq!(with(json!({})).await, ["note is required"]);
    assert_eq!(with(json!({"note": "  "})).await, ["note must not be empty"]);
    assert_eq!(
        with(json!({"note": "x".repeat(1001)})).await,
        ["note must have at most 1000 characters, not 1001"]
    );
    assert_eq!(
        with(json!({"note": null, "by": "me"})).await,
        ["by is not a field of this request", "note must be text, not null"]
    );
    let path = format!("{FLAGS}/{id}/resolve");
    api.send(Who::Operator, "POST", &path, &[], Some(json!({"note": "x"})))
        .await
        .problem(403, "operator_admin_required");
    assert_eq!(world.count("flags WHERE resolved_at IS NOT NULL").await, 0);
    assert_eq!(world.count("subscription_audit").await, 0);

    let flag = resolve(&api, id, "done").await.expect(200);
    let said = resolve(&api, id, "once more").await.problem(409, "flag_resolved");
    assert_eq!(
        said,
        format!(
            "Flag was already resolved by {} at {}",
            text(&flag["resolved_by"]),
            text(&flag["resolved_at"])
        )
    );
    assert_eq!(world.row("SELECT resolution_note FROM flags").await["resolution_note"], "done");
    assert_eq!(world.count("subscription_audit").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_resolve_one_flag_at_once_one_does() {
    let world = World::new().await;
    let api = world.api().await;
    let id = raised(&world, "second_customer", "1 day").await;
    let notes: Vec<String> = (0..16).map(|number| format!("note {number}")).collect();
    let replies = join_all(notes.iter().map(|note| resolve(&api, id, note))).await;
    let (done, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert_eq!((done.len(), refused.len()), (1, 15));
    for reply in refused {
        reply.problem(409, "flag_resolved");
    }
    assert_eq!(
        world.row("SELECT resolution_note FROM flags").await["resolution_note"],
        done[0].body["resolution_note"]
    );
    let audit = world
        .row("SELECT event_type, new_state->>'resolution_note' AS note FROM subscription_audit")
        .await;
    assert_eq!(
        (&audit["event_type"], &audit["note"]),
        (&json!("FLAG_RESOLVED"), &done[0].body["resolution_note"])
    );
}

#[tokio::test]
async fn flags_are_listed_newest_first_by_any_filter_and_page() {
    let world = World::new().await;
    let api = world.api().await;
    let flag = unresolved(&world, &api, "Acme").await;
    for (kind, ago) in
        [("older", "3 days"), ("oldest", "4 days"), ("newer", "2 days"), ("newer_too", "2 days")]
    {
        raised(&world, kind, ago).await;
    }
    // Of one moment: the higher number first.
    world
        .db
        .execute(
            "UPDATE flags SET created_at = (SELECT created_at FROM flags
                      WHERE kind = 'newer') WHERE kind = 'newer_too'",
            &[],
        )
        .await
        .expect("aged");
    let all = ["plan_unresolved", "newer_too", "newer", "older", "oldest"];
    assert_eq!(kinds(&api, "").await, all);
    assert_eq!(kinds(&api, "?kind=older").await, ["older"]);
    assert_eq!(kinds(&api, "?tenant_id=acme").await, all[..1]);
    assert_eq!(kinds(&api, "?tenant_id=demo-cold-chain").await, [""; 0]);
    assert_eq!(
        kinds(&api, &format!("?subscription_id={}", text(&flag["subscription_id"]))).await,
        all[..1]
    );
    assert_eq!(kinds(&api, "?limit=2&offset=1").await, all[1..3]);

    let older = api.get(Who::Operator, &format!("{FLAGS}?kind=older")).await.expect(200)["flags"]
        [0]["flag_id"]
        .clone();
    resolve(&api, older, "seen").await.expect(200);
    assert_eq!(
        kinds(&api, "").await,
        ["plan_unresolved", "newer_too", "newer", "oldest"],
        "what is open, where nothing else is asked for"
    );
    assert_eq!(kinds(&api, "?status=open").await, kinds(&api, "").await);
    assert_eq!(kinds(&api, "?status=resolved").await, ["older"]);
    let seen = api.pages(Who::Operator, &format!("{FLAGS}?status=all&limit=2"), "flags").await;
    let seen: Vec<_> = seen.iter().map(|flag| text(&flag["kind"])).collect();
    assert_eq!(seen, all);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), all.len());

    let faults = api
        .get(
            Who::Operator,
            &format!(
                "{FLAGS}?status=closed&tenant_id=A&subscription_id=1&kind=&limit=0&colour=red"
            ),
        )
        .await
        .faults();
    assert_eq!(
        faults,
        [
            "colour is not a field of this request",
            "kind must not be empty",
            "limit must be from 1 to 500",
            "status must be one of open, resolved, all",
            "subscription_id must match ^SUB-[0-9-]{1,36}$",
            "tenant_id must match ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        ]
    );
    world.receive(&[&world.paid_checkout("One", "jane@one.example").1]).await;
    let other = api.get(Who::Operator, "/api/v1/operator/provisioning?limit=1").await.expect(200);
    let other = text(&other["next_cursor"]);
    assert_eq!(
        api.get(Who::Operator, &format!("{FLAGS}?cursor={other}")).await.faults(),
        ["cursor is not a cursor of this list"]
    );
}

/// Trap 92: a flag about a step that is done, or need not be done, is no work for anybody.
#[tokio::test]
async fn the_flag_of_a_failed_step_ends_when_the_step_is_done_or_dismissed() {
    let world = World::new().await;
    let api = world.api().await;
    for (company, email) in [("One", "jane@one.example"), ("Two", "jane@two.example")] {
        world.receive(&[&world.paid_checkout(company, email).1]).await;
    }
    world.keycloak.fail_next_on("/users", 2, 400);
    assert_eq!(world.outbox().await, json!({"done": 0, "retried": 0, "failed": 2}));
    assert_eq!(kinds(&api, "").await, ["step_failed", "step_failed"]);
    let of = |company: &str| {
        format!(
            "SELECT step_id FROM outbox_steps WHERE kind = 'keycloak_user'
             AND tenant_id = '{company}'"
        )
    };
    let step = async |company: &str, verb: &str, body: Value| {
        let id = world.row(&of(company)).await["step_id"].clone();
        let path = format!("/api/v1/operator/provisioning/{id}/{verb}");
        api.write("POST", &path, body).await.expect(200);
    };
    step("one", "retry", json!({})).await;
    assert_eq!(kinds(&api, "").await.len(), 2, "it is not done yet");
    world.outbox().await;
    assert_eq!(kinds(&api, "?tenant_id=one").await, [""; 0]);
    step("two", "dismiss", json!({"note": "They do not want it"})).await;
    assert_eq!(kinds(&api, "").await, [""; 0]);
    let ended = "SELECT f.tenant_id, f.resolution_note, a.actor_type FROM flags f
                 JOIN subscription_audit a ON a.event_type = 'FLAG_RESOLVED'
                 AND a.tenant_id = f.tenant_id ORDER BY 1";
    assert_eq!(
        world.rows(ended).await,
        [
            json!({"tenant_id": "one", "resolution_note": "The step is done",
                "actor_type": "system"}),
            json!({"tenant_id": "two", "resolution_note": "The step was dismissed",
                "actor_type": "admin"}),
        ]
    );
}
