//! The steps at Keycloak against the real server, with the realm of this repository. Skipped by
//! name where there is no JDK.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use shared::base::clock::Clock;
use simulators::browser::{Browser, find_link};
use tests::api::Who;
use tests::realm::Realm;
use tests::{World, stack, text};

use super::{provisioned, summary};

/// A mail address that no other run has.
fn address(name: &str) -> String {
    format!("{name}@{}.example", Clock::system().now().as_microsecond())
}

async fn user_step(world: &World, tenant: &str) -> Value {
    let sql = "SELECT status, last_error, result->>'user_id' AS user FROM outbox_steps
               WHERE kind = 'keycloak_user' AND tenant_id";
    world.row(&format!("{sql} = '{tenant}'")).await
}

/// Trap 70: a paid checkout that names an account of staff or of a stranger changes nothing of it.
#[tokio::test]
async fn real_keycloak_gives_no_account_that_was_there_to_a_buyer() {
    let realm = Realm::new().await;
    let world = realm.world().await;
    let (staff, stranger) = (address("staff"), address("stranger"));
    realm.add(&staff, None).await;
    let id = text(&realm.account(&staff).await["id"]);
    let mappings = format!("/users/{id}/role-mappings/realm");
    let roles = realm.call(Method::GET, &format!("{mappings}/available"), None).await;
    let roles = roles.as_array().expect("roles").iter();
    let operator: Vec<_> = roles.filter(|role| role["name"] == "operator").collect();
    realm.call(Method::POST, &mappings, Some(json!(operator))).await;
    realm.add(&stranger, None).await;
    let before = [realm.account(&staff).await, realm.account(&stranger).await];

    provisioned(&world, "Staff", &staff).await;
    provisioned(&world, "Stranger", &stranger.to_uppercase()).await;
    assert_eq!(world.outbox().await, summary(0, 0, 2));
    let refused = json!({
        "status": "failed", "last_error": "A user with this email exists already", "user": null,
    });
    assert_eq!(user_step(&world, "staff").await, refused);
    assert_eq!(user_step(&world, "stranger").await, refused);
    assert_eq!([realm.account(&staff).await, realm.account(&stranger).await], before);
    let claims = realm.log_in(&stranger, "old pass word").await;
    assert!(!claims.contains("tenant_id"), "{claims}");
    assert_eq!(world.count("flags WHERE kind = 'step_failed'").await, 2);
    let api = world.api_with(&world.env(&[])).await;
    let disable = api
        .write("PATCH", &format!("/api/v1/operator/users/{id}"), json!({"enabled": false}))
        .await;
    disable.problem(404, "user_not_found");
}

/// Trap 70: a worker that dies between Keycloak's user and our record leaves a user that the next
/// attempt completes.
#[tokio::test]
async fn real_keycloak_has_the_user_that_a_dead_worker_began_completed() {
    let realm = Realm::new().await;
    let world = realm.world().await;
    let email = address("jane");
    provisioned(&world, "Acme", &email).await;
    let begin = "UPDATE outbox_steps SET began_email = $1 WHERE kind = 'keycloak_user'";
    world.db.execute(begin, &[&email]).await.expect("begun");
    realm.add(&email, Some("acme")).await;
    assert_eq!(world.outbox().await, summary(2, 0, 0));
    let account = realm.account(&email).await;
    assert_eq!(account["roles"], json!(["customer"]));
    assert_eq!(user_step(&world, "acme").await["user"], account["id"]);
    let created = "subscription_audit WHERE event_type = 'USER_CREATED'";
    assert_eq!(world.count(created).await, 1);
}

/// Trap 71.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_keycloak_has_one_user_of_two_steps_for_one_new_address_at_once() {
    let realm = Realm::new().await;
    let world = realm.world().await;
    let email = address("shared");
    provisioned(&world, "One", &email).await;
    provisioned(&world, "Other", &email.to_uppercase()).await;
    assert!(join_all((0..4).map(|_| world.provisioning.handle())).await.iter().all(Result::is_ok));
    world.clock.pass(20);
    world.outbox().await;
    let account = realm.account(&email).await;
    let owner = text(&account["attributes"]["tenant_id"][0]);
    let other = if owner == "one" { "other" } else { "one" };
    let done = user_step(&world, &owner).await;
    assert_eq!((&done["status"], &done["user"]), (&json!("done"), &account["id"]));
    let failed = user_step(&world, other).await;
    assert_eq!(failed["last_error"], "A user with this email exists already");
    assert_eq!(world.count("subscription_audit WHERE event_type = 'USER_CREATED'").await, 1);
}

/// Trap 72: whatever the payer typed, a login is made, and works by the mail address.
#[tokio::test]
async fn real_keycloak_refuses_no_login_for_a_name_or_an_address() {
    let realm = Realm::new().await;
    let world = realm.world().await;
    let long = "x".repeat(300);
    let buyers = [
        ("plain", "R&D", "[<>]", ["R D", ""]),
        ("o'brien", "Jane (CTO)", "Meier/Huber", ["Jane CTO", "Meier Huber"]),
        ("r&d", &long, "O'Neil-Smith, Jr.", [&long[..255], "O'Neil-Smith, Jr."]),
        ("müller", "Jürgen", "李", ["Jürgen", "李"]),
    ];
    let buyers = buyers.map(|(local, first, last, names)| (address(local), first, last, names));
    for (email, first, last, _) in &buyers {
        let metadata = [
            ("plan_id", "pro"),
            ("company_name", email.as_str()),
            ("admin_email", email),
            ("admin_first_name", first),
            ("admin_last_name", last),
        ];
        let session = world.checkout("price_pro_month", &metadata);
        world.stripe.pay(&session, tests::payer(email)).expect("paid");
        world.receive(&[&world.event("checkout.session.completed")]).await;
    }
    let done = world.outbox().await;
    assert_eq!(
        done,
        summary(8, 0, 0),
        "{:?}",
        world.rows("SELECT status, payload, last_error FROM outbox_steps").await
    );
    for (email, _, _, names) in &buyers {
        let account = realm.account(email).await;
        let name = |field: &str| account[field].as_str().unwrap_or_default().to_owned();
        assert_eq!([name("firstName"), name("lastName")], names.map(str::to_owned), "{email}");
        let (_, mail) = realm.mail(email).await;
        let link = find_link(&mail, &stack("KEYCLOAK_URL")).expect("a link");
        let mut browser = Browser::new().expect("a browser");
        browser.set_password(&link, "new pass word").await.expect("set");
        let claims = realm.log_in(email, "new pass word").await;
        assert!(claims.contains("\"tenant_id\":"), "{email}: {claims}");
    }
}

/// Trap 73: the mail says who writes and what to do, in text and HTML, and its last page leads to
/// the product.
#[tokio::test]
async fn real_keycloak_welcomes_and_leads_to_the_product() {
    let realm = Realm::new().await;
    let mut world = realm.world().await;
    let product = stack("WELCOME_REDIRECT_URI");
    world.settings.insert("WELCOME_REDIRECT_URI".to_owned(), product.clone());
    world.restart().await;
    let email = address("jane");
    provisioned(&world, "Acme", &email).await;
    assert_eq!(world.outbox().await, summary(2, 0, 0));
    let (head, mail) = realm.mail(&email).await;
    assert!(head.contains("Subject: Welcome to Pulse: choose your password"), "{head}");
    let (plain, html) = mail.split_once("<html").expect("text, then HTML");
    for part in [plain, html] {
        let part = part.split_whitespace().collect::<Vec<_>>().join(" ").replace("&#39;", "'");
        for said in ["Welcome to Pulse.", "Your company manages its devices", "works for 3 days"] {
            assert!(part.contains(said), "{said}: {part}");
        }
        for said in ["dministrator", "pulse account", "Update", "{", "''"] {
            assert!(!part.contains(said), "{said}: {part}");
        }
        assert!(part.contains(&stack("KEYCLOAK_URL")), "a link: {part}");
    }
    let link = find_link(&mail, &stack("KEYCLOAK_URL")).expect("a link");
    let mut browser = Browser::new().expect("a browser");
    let last = browser.set_password(&link, "new pass word").await.expect("set");
    assert!(last.contains(&format!("href=\"{product}\"")), "{last}");
}

/// Trap 73: a wrong setting costs the way to the product, and not the mail.
#[tokio::test]
async fn real_keycloak_sends_the_welcome_mail_also_where_it_refuses_the_way_to_the_product() {
    let realm = Realm::new().await;
    let mut world = realm.world().await;
    for (number, (setting, value)) in [
        ("WELCOME_REDIRECT_URI", "https://elsewhere.example/"),
        ("WELCOME_CLIENT_ID", "no-such-client"),
    ]
    .into_iter()
    .enumerate()
    {
        world.settings.insert(setting.to_owned(), value.to_owned());
        world.restart().await;
        let email = address("jane");
        provisioned(&world, &format!("Acme {number}"), &email).await;
        assert_eq!(world.outbox().await, summary(2, 0, 0), "{setting}");
        realm.mail(&email).await;
    }
}

/// Trap 74: Keycloak finds attributes without regard to case; a user with such a value is no
/// tenant's.
#[tokio::test]
async fn real_keycloak_lists_only_users_whose_tenant_is_the_tenant() {
    let realm = Realm::new().await;
    let world = realm.world().await;
    let api = world.api_with(&world.env(&[])).await;
    let tenant = format!("acme-{}", Clock::system().now().as_microsecond());
    let new = json!({"tenant_id": tenant, "name": "Acme"});
    api.write("POST", "/api/v1/operator/tenants", new).await.expect(201);
    let (ours, theirs) = (address("ours"), address("theirs"));
    realm.add(&theirs, Some(&tenant.to_uppercase())).await;
    let new = json!({"tenant_id": tenant, "email": ours});
    let made = api.write("POST", "/api/v1/operator/users", new).await.expect(201);
    let found = realm.call(Method::GET, &format!("/users?q=tenant_id:{tenant}"), None).await;
    assert_eq!(found.as_array().map(Vec::len), Some(2), "Keycloak finds both: {found}");
    let list = format!("/api/v1/operator/users?tenant_id={tenant}");
    let list = api.get(Who::Operator, &list).await.expect(200);
    assert_eq!(list, json!({"users": [made], "count": 1, "next_cursor": null}));
    let new = json!({"tenant_id": tenant, "email": theirs});
    api.write("POST", "/api/v1/operator/users", new).await.problem(409, "user_exists");
}

/// The organization of a tenant, with its members' mail addresses.
async fn organization(realm: &Realm, tenant: &str) -> (Value, Vec<String>) {
    let path = format!("/organizations?q=alias:{tenant}&briefRepresentation=false");
    let mut found = realm.call(Method::GET, &path, None).await;
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    let found = found[0].take();
    let path = format!("/organizations/{}/members?max=100", text(&found["id"]));
    let members = realm.call(Method::GET, &path, None).await;
    let members = members.as_array().expect("a list").iter();
    (found, members.map(|member| text(&member["email"])).collect())
}

/// A tenant is an organization that follows its name, and that gives nobody anything.
#[tokio::test]
async fn real_keycloak_has_a_tenant_as_an_organization_with_its_users() {
    let realm = Realm::new().await;
    let world = realm.world().await;
    let email = address("jane");
    let company = format!("Ärzte & \"Söhne\" {}", Clock::system().now().as_microsecond());
    provisioned(&world, &company, &email).await;
    assert_eq!(world.outbox().await, summary(2, 0, 0));
    world.clock.pass(61);
    assert_eq!(world.outbox().await, summary(1, 0, 0));
    let tenant = text(
        &world.row("SELECT tenant_id FROM outbox_steps WHERE kind = 'keycloak_user'").await["tenant_id"],
    );
    let (made, members) = organization(&realm, &tenant).await;
    assert_eq!(made["name"], format!("{company} ({tenant})"));
    assert_eq!(made["enabled"], true);
    assert_eq!(members, [email.as_str()]);
    // What an administrator adds there stays when the name changes.
    let domain = format!("{tenant}.example");
    let mut with_domain = made.clone();
    with_domain["domains"] = json!([{"name": domain, "verified": false}]);
    let path = format!("/organizations/{}", text(&made["id"]));
    realm.call(Method::PUT, &path, Some(with_domain)).await;
    let api = world.api_with(&world.env(&[])).await;
    let name = "x".repeat(200);
    let (route, change) = (format!("/api/v1/operator/tenants/{tenant}"), json!({"name": name}));
    api.write("PATCH", &route, change).await.expect(200);
    let second = address("joe");
    let user = json!({"tenant_id": tenant, "email": second});
    api.write("POST", "/api/v1/operator/users", user).await.expect(201);
    // The first time with the name of the Stripe customer, the second time with nothing to change.
    for steps in [2, 1] {
        world.clock.pass(61);
        assert_eq!(world.outbox().await, summary(steps, 0, 0));
        let (changed, mut members) = organization(&realm, &tenant).await;
        assert_eq!(changed["id"], made["id"]);
        assert_eq!(changed["name"], format!("{name} ({tenant})"));
        assert_eq!(changed["domains"][0]["name"], domain.as_str());
        members.sort();
        assert_eq!(members, [email.as_str(), second.as_str()]);
        let again = "UPDATE outbox_steps SET status = 'pending', next_attempt_at = created_at
                     WHERE kind = 'keycloak_organization'";
        world.db.execute(again, &[]).await.expect("due");
    }
    let set = "subscription_audit WHERE event_type = 'KEYCLOAK_ORGANIZATION_SET'";
    assert_eq!(world.count(set).await, 2, "no change is not audited");
    let (_, mail) = realm.mail(&email).await;
    let link = find_link(&mail, &stack("KEYCLOAK_URL")).expect("a link");
    Browser::new().expect("a browser").set_password(&link, "new pass word").await.expect("set");
    let claims = realm.log_in(&email, "new pass word").await;
    assert!(claims.contains(&format!("\"tenant_id\":\"{tenant}\"")), "{claims}");
    assert!(!claims.contains("organization"), "no source of access: {claims}");
}
