//! The realm for production against that of the local stack, which all tests run on.

use std::fs;

use serde_json::{Value, json};

fn realm(path: &str) -> Value {
    let text = fs::read_to_string(tests::repository(path)).expect(path);
    serde_json::from_str(&text).expect("JSON")
}

fn client<'a>(realm: &'a Value, id: &str) -> Option<&'a Value> {
    let mut all = realm["clients"].as_array().into_iter().flatten();
    all.find(|client| client["clientId"] == id)
}

#[test]
fn the_realm_for_production_is_the_tested_one_but_for_what_is_only_safe_on_one_machine() {
    let (tested, production) =
        (realm("xtask/stack/pulse-realm.json"), realm("docs/pulse-realm.json"));
    for (name, value) in tested.as_object().expect("a realm") {
        if !["sslRequired", "clients", "smtpServer"].contains(&name.as_str()) {
            assert_eq!(&production[name], value, "{name}");
        }
    }
    assert_eq!(client(&production, "pulse-backend"), client(&tested, "pulse-backend"));
    let web = client(&production, "pulse-web").expect("the application");
    let mappers =
        |realm: &Value| client(realm, "pulse-web").map(|web| web["protocolMappers"].clone());
    assert_eq!(mappers(&production), mappers(&tested), "the claims that the functions read");
    assert_eq!(web["attributes"]["pkce.code.challenge.method"], "S256");

    assert_eq!(production["sslRequired"], "all");
    assert_eq!(production["smtpServer"]["starttls"], "true");
    assert_eq!(production["smtpServer"]["auth"], "true");
    for realm in [&tested, &production] {
        let web = client(realm, "pulse-web").expect("the application");
        let page = web["webOrigins"][0].as_str().expect("an origin");
        assert_eq!(web["webOrigins"], json!([page]), "one exact origin");
        // With a wildcard Keycloak answers a page's call at the token endpoint without CORS.
        assert!(!page.contains(['*', '+']), "{page} is not exact");
        assert_eq!(web["redirectUris"], json!([format!("{page}/")]));
        let out = &web["attributes"]["post.logout.redirect.uris"];
        assert_eq!(out, &json!(format!("{page}/signed-out")));
    }
    for client in production["clients"].as_array().expect("clients") {
        let id = &client["clientId"];
        assert_eq!(client["directAccessGrantsEnabled"], json!(false), "{id}: a password grant");
        for uri in client["redirectUris"].as_array().into_iter().flatten() {
            assert!(!uri.to_string().contains('*'), "{id}: {uri} is not exact");
        }
        assert!(
            client["secret"].is_null() || client["secret"] == "${PULSE_BACKEND_SECRET}",
            "{id}: a secret in the file"
        );
    }
}
