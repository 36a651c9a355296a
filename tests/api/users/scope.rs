//! Which users an operator sees: those of the tenant, and no one else.

use serde_json::{Value, json};
use tests::api::Who;
use tests::{World, text};

use super::{USERS, api, audit, user};

/// Whoever is no user of a tenant of ours is not here: neither platform staff nor anyone of
/// another system in the same realm.
#[tokio::test]
async fn platform_staff_and_strangers_are_out_of_reach() {
    let world = World::new().await;
    let api = api(&world).await;
    let before = [
        user("staff@pulse.example", None, &["operator_admin"]),
        user("stranger@else.example", Some("not-ours"), &["customer"]),
        user("blank@else.example", Some(""), &["customer"]),
        user("theirs@other.example", Some("other"), &["customer"]),
    ];
    let ids: Vec<String> =
        before.iter().cloned().map(|user| world.keycloak.add_user(user)).collect();
    for id in &ids[..3] {
        let patch = api.write("PATCH", &format!("{USERS}/{id}"), json!({"enabled": false})).await;
        assert_eq!(patch.problem(404, "user_not_found"), "User not found");
        api.send(Who::Admin, "POST", &format!("{USERS}/{id}/send-welcome-email"), &[], None)
            .await
            .problem(404, "user_not_found");
    }
    // An address that anybody has is taken, and the answer does not say whose.
    for user in &before {
        let body = json!({"tenant_id": "acme", "email": user.email});
        assert_eq!(
            api.write("POST", USERS, body).await.problem(409, "user_exists"),
            "A user with this email exists already"
        );
    }
    let odd = [
        "..",
        "../users",
        "%2e%2e",
        "a/../b",
        "00000000-0000-4000-8000-00000000000%2F",
        "00000000-0000-4000-8000-0000000000%C3%A9",
    ];
    for id in odd
        .into_iter()
        .chain(["00000000-0000-4000-8000-00000000000?", "service-account-pulse-backend"])
    {
        let asked = world.keycloak.requests().len();
        let reply = api.write("PATCH", &format!("{USERS}/{id}"), json!({"enabled": false})).await;
        assert!(matches!(reply.status, 404 | 405), "{id}: {}", reply.body);
        assert_eq!(world.keycloak.requests().len(), asked, "Keycloak is not asked about {id}");
    }
    let after = world.keycloak.users();
    assert_eq!(after.len(), 4);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(
            (&after.attributes, &after.roles, after.enabled, after.mails_sent),
            (&before.attributes, &before.roles, true, 0)
        );
    }
    assert_eq!(audit(&world).await, [Value::Null; 0]);
    // Another tenant's user is the operator's too, and counts as that tenant's.
    api.write("PATCH", &format!("{USERS}/{}", ids[3]), json!({"enabled": false})).await.expect(200);
    assert_eq!(audit(&world).await[0]["tenant"], "other");
}

#[tokio::test]
async fn users_are_listed_page_by_page_and_only_those_of_the_tenant() {
    let world = World::new().await;
    let api = api(&world).await;
    for (number, tenant) in
        ["acme", "other", "acme", "acme", "other", "acme", "acme"].into_iter().enumerate()
    {
        let _ = world.keycloak.add_user(user(
            &format!("user{number}@x.example"),
            Some(tenant),
            &["customer"],
        ));
    }
    let page = async |query: &str| {
        let answer =
            api.get(Who::Operator, &format!("{USERS}?tenant_id=acme{query}")).await.expect(200);
        let users: Vec<_> = answer["users"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|user| text(&user["username"])[4..5].to_owned())
            .collect();
        assert_eq!(answer["count"], users.len());
        (users.concat(), answer["next_cursor"].as_str().map(str::to_owned))
    };
    assert_eq!(page("").await, ("02356".to_owned(), None));
    let (first, cursor) = page("&limit=2").await;
    let (second, cursor) = page(&format!("&limit=2&cursor={}", cursor.expect("more"))).await;
    let (third, cursor) = page(&format!("&limit=2&cursor={}", cursor.expect("more"))).await;
    assert_eq!(([first, second, third].concat().as_str(), cursor), ("02356", None));
    let (after, cursor) = page("&limit=2&offset=1").await;
    assert_eq!(
        (after.as_str(), page(&format!("&cursor={}", cursor.expect("more"))).await.0.as_str()),
        ("23", "56")
    );
    assert_eq!(page("&limit=5").await, ("02356".to_owned(), None));
    assert_eq!(page("&offset=5").await, (String::new(), None));
    // Cursors that the API never gave: -1, ten milliards, another list's.
    for cursor in ["LTE", "MTAwMDAwMDAwMDA", "WzFd"] {
        let reply =
            api.get(Who::Operator, &format!("{USERS}?tenant_id=acme&cursor={cursor}")).await;
        assert_eq!(reply.faults(), ["cursor is not a cursor of this list"], "{cursor}");
    }
    api.get(Who::Operator, &format!("{USERS}?tenant_id=acme&offset=1000000000")).await.expect(200);
}
