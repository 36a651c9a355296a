//! The step at Keycloak that makes a tenant an organization.

use std::collections::BTreeSet;

use provisioning::Provisioning;
use serde_json::{Value, json};
use simulators::keycloak::{Organization, User};
use tests::api::Who;
use tests::{World, text};

use super::{provisioned, summary};
use crate::api::users::keycloak::Front;

const TENANTS: &str = "/api/v1/operator/tenants";

/// Name, and mail addresses of the members, of the one organization of this alias.
fn organization(world: &World, alias: &str) -> (String, BTreeSet<String>) {
    let found = world.keycloak.organizations();
    let mut found = found.into_iter().filter(|organization| organization.alias == alias);
    let organization = found.next().unwrap_or_else(|| panic!("no organization {alias}"));
    assert!(found.next().is_none(), "one {alias}");
    let users = world.keycloak.users();
    let members = users.into_iter().filter(|user| organization.members.contains(&user.id));
    (organization.name, members.filter_map(|user| user.email).collect())
}

fn emails<const N: usize>(emails: [&str; N]) -> BTreeSet<String> {
    emails.map(str::to_owned).into()
}

/// Lets the steps that are left now become due, and performs them.
async fn later(world: &World) -> Value {
    world.clock.pass(61);
    world.outbox().await
}

/// Makes steps that are done due once more.
async fn again(world: &World) {
    let sql = "UPDATE outbox_steps SET status = 'pending', next_attempt_at = created_at";
    world.db.execute(sql, &[]).await.expect("due");
}

async fn step(world: &World) -> Value {
    let sql = "SELECT status, last_error, result FROM outbox_steps
               WHERE kind = 'keycloak_organization'";
    world.row(sql).await
}

const SET: &str = "subscription_audit WHERE event_type = 'KEYCLOAK_ORGANIZATION_SET'";

#[tokio::test]
async fn a_tenant_becomes_an_organization_with_its_users_after_its_login_and_mail() {
    let world = World::new().await;
    provisioned(&world, "Acme", "jane@acme.example").await;
    assert_eq!(world.outbox().await, summary(2, 0, 0), "login and mail");
    assert_eq!(world.keycloak.users()[0].mails_sent, 1);
    assert!(world.keycloak.organizations().is_empty(), "not before them");
    assert_eq!(later(&world).await, summary(1, 0, 0));
    let made = ("Acme (acme)".to_owned(), emails(["jane@acme.example"]));
    assert_eq!(organization(&world, "acme"), made);
    let audit = "SELECT tenant_id, actor_id, details FROM subscription_audit
                 WHERE event_type = 'KEYCLOAK_ORGANIZATION_SET'";
    let id = &world.keycloak.organizations()[0].id;
    assert_eq!(
        world.row(audit).await,
        json!({"tenant_id": "acme", "actor_id": "outbox", "details":
            {"organization_id": id, "tenant_version": 1, "members": 1}})
    );
    // Another company of the same name.
    provisioned(&world, "Acme", "joe@acme.example").await;
    assert_eq!(world.outbox().await, summary(2, 0, 0));
    assert_eq!(later(&world).await, summary(1, 0, 0));
    let twin = world.keycloak.organizations().remove(1);
    assert!(twin.alias.starts_with("acme-") && twin.name == format!("Acme ({})", twin.alias));
    assert_eq!(world.count(SET).await, 2);
    assert_eq!(world.count("flags").await, 0);
}

/// However long a login has waited: no access depends on an organization.
#[tokio::test]
async fn a_login_and_its_mail_come_before_organizations_that_are_due_longer() {
    let world = World::new().await;
    let api = world.api().await;
    api.write("POST", TENANTS, json!({"tenant_id": "old", "name": "Old"})).await.expect(201);
    world.clock.pass(100);
    provisioned(&world, "Acme", "jane@acme.example").await;
    assert_eq!(world.outbox().await, summary(3, 0, 0));
    let events = "SELECT event_type FROM subscription_audit WHERE actor_id = 'outbox' ORDER BY id";
    let events: Vec<_> =
        world.rows(events).await.iter().map(|row| text(&row["event_type"])).collect();
    assert_eq!(events, ["USER_CREATED", "WELCOME_EMAIL_SENT", "KEYCLOAK_ORGANIZATION_SET"]);
}

#[tokio::test]
async fn an_organization_follows_the_companys_name_and_gets_users_that_an_operator_makes() {
    let world = World::new().await;
    let api = world.api().await;
    api.write("POST", TENANTS, json!({"tenant_id": "acme", "name": "Acme"})).await.expect(201);
    assert_eq!(later(&world).await, summary(1, 0, 0));
    assert_eq!(organization(&world, "acme"), ("Acme (acme)".to_owned(), emails([])));
    let patch = async |body: Value| {
        api.write("PATCH", &format!("{TENANTS}/acme"), body).await.expect(200);
    };
    patch(json!({"name": "Acme Ltd"})).await;
    patch(json!({"name": "Acme Inc."})).await;
    assert_eq!(later(&world).await, summary(1, 0, 0), "two changes are one step");
    assert_eq!(organization(&world, "acme").0, "Acme Inc. (acme)");
    let (profile, own) = ("/api/v1/customer/organization", json!({"name": "Ärzte & Söhne"}));
    api.send(Who::Customer("acme"), "PUT", profile, &[], Some(own)).await.expect(200);
    assert_eq!(later(&world).await, summary(1, 0, 0));
    assert_eq!(organization(&world, "acme").0, "Ärzte & Söhne (acme)");
    patch(json!({"city": "Kiel"})).await;
    assert_eq!(later(&world).await, summary(0, 0, 0), "nothing to follow");
    let user = json!({"tenant_id": "acme", "email": "jane@acme.example"});
    api.write("POST", "/api/v1/operator/users", user).await.expect(201);
    assert_eq!(later(&world).await, summary(1, 0, 0));
    assert_eq!(organization(&world, "acme").1, emails(["jane@acme.example"]));
    assert_eq!(world.count(SET).await, 4);
    assert_eq!(world.count("outbox_steps").await, 1, "one for each tenant");
    // What is so already is not audited.
    again(&world).await;
    assert_eq!(world.outbox().await, summary(1, 0, 0));
    assert_eq!(world.count(SET).await, 4);
}

#[tokio::test]
async fn a_login_that_is_made_late_becomes_a_member_too() {
    let world = World::new().await;
    let stranger = User {
        username: "jane@acme.example".to_owned(),
        email: Some("jane@acme.example".to_owned()),
        ..User::default()
    };
    let _ = world.keycloak.add_user(stranger);
    provisioned(&world, "Acme", "jane@acme.example").await;
    assert_eq!(world.outbox().await, summary(0, 0, 1), "whose account it is, an operator decides");
    assert_eq!(later(&world).await, summary(1, 0, 0));
    assert_eq!(organization(&world, "acme").1, emails([]));
    let failed = world.row("SELECT step_id FROM outbox_steps WHERE status = 'failed'").await;
    let retry = format!("/api/v1/operator/provisioning/{}/retry", failed["step_id"]);
    let api = world.api().await;
    api.write("POST", &retry, json!({"email": "joe@acme.example"})).await.expect(200);
    assert_eq!(world.outbox().await, summary(2, 0, 0));
    assert_eq!(later(&world).await, summary(1, 0, 0));
    assert_eq!(organization(&world, "acme").1, emails(["joe@acme.example"]));
}

/// Each call fails once, undone or done with its answer lost. The repetition completes what was
/// begun, and the audit has it once.
#[tokio::test]
async fn keycloak_failing_at_any_call_leaves_an_organization_that_the_next_attempt_completes() {
    let world = World::new().await;
    let front = Front::start(world.keycloak.base_url()).await;
    for lost in [false, true] {
        let mut calls = 0;
        for call in 1.. {
            let tenant = format!("acme-{lost}-{call}");
            let email = format!("jane@{tenant}.example");
            provisioned(&world, &tenant, &email).await;
            assert_eq!(world.outbox().await, summary(2, 0, 0));
            world.clock.pass(61);
            // With its token still to fetch.
            let env = world.env(&[("KEYCLOAK_URL", &front.url)]);
            let worker = Provisioning::start(&env, world.clock.reader()).await.expect("started");
            front.fail(call, lost);
            let run = worker.handle().await.expect("a run");
            let has_failed = front.has_failed();
            if has_failed {
                calls = call;
                assert_eq!((run.done, run.retried, run.failed), (0, 1, 0), "{lost} {call}");
                world.clock.pass(10);
                assert_eq!(world.outbox().await, summary(1, 0, 0), "{lost} {call}");
            } else {
                assert_eq!(run.done, 1);
            }
            let made = (format!("{tenant} ({tenant})"), emails([&email]));
            assert_eq!(organization(&world, &tenant), made, "{lost} {call}");
            let set = format!("{SET} AND tenant_id = '{tenant}'");
            assert_eq!(world.count(&set).await, 1, "{lost} {call}");
            if !has_failed {
                break;
            }
        }
        assert_eq!(calls, 6, "the token; find, make, list members, list users, add one");
    }
}

#[tokio::test]
async fn what_is_there_already_is_completed_and_keeps_what_else_it_has() {
    let world = World::new().await;
    let domains = json!([{"name": "acme.example", "verified": true}]);
    let rest = json!({"enabled": true, "domains": domains, "attributes": {"tier": ["gold"]}});
    world.keycloak.add_organization(Organization {
        name: "By hand".to_owned(),
        alias: "acme".to_owned(),
        rest: rest.as_object().expect("an object").clone(),
        members: vec![world.keycloak.add_user(User {
            username: "staff".to_owned(),
            email: Some("staff@pulse.example".to_owned()),
            ..User::default()
        })],
        ..Default::default()
    });
    provisioned(&world, "Acme", "jane@acme.example").await;
    world.outbox().await;
    assert_eq!(later(&world).await, summary(1, 0, 0));
    let (name, members) = organization(&world, "acme");
    assert_eq!(name, "Acme (acme)");
    assert_eq!(members, emails(["jane@acme.example", "staff@pulse.example"]), "none is taken out");
    assert_eq!(Value::Object(world.keycloak.organizations()[0].rest.clone()), rest);
    // A name that is another organization's is for an operator.
    let name = "Bolt (bolt)".to_owned();
    let other = Organization { name, alias: "other".to_owned(), ..Default::default() };
    world.keycloak.add_organization(other);
    provisioned(&world, "Bolt", "joe@bolt.example").await;
    world.outbox().await;
    assert_eq!(later(&world).await, summary(0, 0, 1));
    let flag =
        text(&world.row("SELECT detail FROM flags WHERE kind = 'step_failed'").await["detail"]);
    assert!(flag.ends_with("A organization with the same name already exists."), "{flag}");
}

#[tokio::test]
async fn more_users_than_one_page_become_members() {
    let world = World::new().await;
    let api = world.api().await;
    api.write("POST", TENANTS, json!({"tenant_id": "acme", "name": "Acme"})).await.expect(201);
    for number in 0..230 {
        let tenant = if number % 23 == 0 { "ACME" } else { "acme" };
        let _ = world.keycloak.add_user(User {
            username: format!("user-{number:03}"),
            attributes: [("tenant_id".to_owned(), vec![tenant.to_owned()])].into(),
            ..User::default()
        });
    }
    assert_eq!(later(&world).await, summary(1, 0, 0));
    assert_eq!(world.keycloak.organizations()[0].members.len(), 220, "and no other tenant's");
    again(&world).await;
    let asked = world.keycloak.requests().len();
    assert_eq!(world.outbox().await, summary(1, 0, 0));
    let requests = world.keycloak.requests().split_off(asked);
    assert!(requests.iter().all(|(method, _)| method == "GET"), "{requests:?}");
}

#[tokio::test]
async fn a_realm_without_organizations_says_what_to_do_and_the_step_waits() {
    let world = World::new().await;
    world.keycloak.switch_organizations(false);
    provisioned(&world, "Acme", "jane@acme.example").await;
    assert_eq!(world.outbox().await, summary(2, 0, 0), "the login needs none");
    assert_eq!(later(&world).await, summary(0, 1, 0));
    assert_eq!(
        step(&world).await["last_error"],
        "Keycloak: GET /organizations answered 404 Not Found: switch organizations on in the \
         realm, or set KEYCLOAK_ORGANIZATIONS=false"
    );
    world.keycloak.switch_organizations(true);
    world.keycloak.fail_next_on("/organizations", 1, 403);
    world.clock.pass(10);
    assert_eq!(world.outbox().await, summary(0, 1, 0));
    assert_eq!(
        step(&world).await["last_error"],
        "Keycloak: GET /organizations answered 403 Forbidden: give the service account the role \
         manage-organizations of realm-management"
    );
    world.clock.pass(100);
    assert_eq!(world.outbox().await, summary(1, 0, 0));
    assert_eq!(organization(&world, "acme").1, emails(["jane@acme.example"]));
}

#[tokio::test]
async fn a_deleted_tenant_becomes_no_organization_and_one_that_it_is_stays() {
    let world = World::new().await;
    let api = world.api().await;
    for tenant in ["acme", "bolt"] {
        api.write("POST", TENANTS, json!({"tenant_id": tenant, "name": tenant})).await.expect(201);
    }
    let delete = async |tenant: &str| {
        let path = format!("{TENANTS}/{tenant}");
        api.send(Who::Admin, "DELETE", &path, &[], None).await.expect(200);
    };
    delete("bolt").await;
    assert_eq!(later(&world).await, summary(2, 0, 0));
    delete("acme").await;
    assert_eq!(later(&world).await, summary(0, 0, 0));
    let aliases: Vec<_> = world.keycloak.organizations().into_iter().map(|o| o.alias).collect();
    assert_eq!(aliases, ["acme"]);
}

/// Tenants from before the setting: the hourly run brings them on their way, so many at a time.
#[tokio::test]
async fn the_hourly_run_heals_tenants_that_are_no_organization_yet() {
    let mut world = World::new().await;
    world.settings.insert("KEYCLOAK_ORGANIZATIONS".to_owned(), "false".to_owned());
    world.restart().await;
    provisioned(&world, "Acme", "jane@acme.example").await;
    world.outbox().await;
    assert_eq!(later(&world).await, summary(1, 0, 0));
    assert_eq!(step(&world).await["result"], json!({"skipped": "switched_off"}));
    assert!(world.keycloak.organizations().is_empty());
    let run = async |world: &World| {
        let summary = world.renewals.handle(json!({})).await.expect("a run");
        assert!(summary.errors.is_empty(), "{:?}", summary.errors);
        summary.organizations
    };
    assert_eq!(run(&world).await, 0, "switched off");
    world.settings.insert("KEYCLOAK_ORGANIZATIONS".to_owned(), "true".to_owned());
    world.restart().await;
    let old = "INSERT INTO tenants (tenant_id, name, status)
               SELECT 'old-' || n, 'Old', CASE n WHEN 1 THEN 'DELETED' ELSE 'ACTIVE' END
               FROM generate_series(1, 250) n";
    world.db.execute(old, &[]).await.expect("tenants");
    let all = u64::try_from(world.count("tenants WHERE status = 'ACTIVE'").await).expect("many");
    world.clock.stop_at(world.clock.now());
    assert_eq!(run(&world).await, 200);
    assert_eq!(run(&world).await, 0, "not more until these are done");
    let made = |world: &World| world.keycloak.organizations().len() as u64;
    world.clock.pass(60);
    world.outbox().await;
    assert_eq!(made(&world), 6, "one every 10 seconds");
    // A run has a budget, and so have slow machines.
    let finish = async |world: &World| {
        world.clock.pass(3600);
        while world.outbox().await["done"] != 0 {}
    };
    finish(&world).await;
    assert_eq!(made(&world), 200);
    assert_eq!(organization(&world, "acme").1, emails(["jane@acme.example"]));
    // One that failed is for an operator, and is not left again.
    let failed = "UPDATE outbox_steps SET status = 'failed' WHERE tenant_id = 'acme'
                  AND kind = 'keycloak_organization'";
    assert_eq!(world.db.execute(failed, &[]).await.expect("failed"), 1);
    assert_eq!(run(&world).await, all - 200);
    finish(&world).await;
    assert_eq!(made(&world), all, "all but the deleted one");
    assert_eq!(run(&world).await, 0);
}
