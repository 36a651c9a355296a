//! The OpenAPI document: what is checked in is what the code says, and every route of it is there,
//! closed to those it is not for.

use regex::Regex;
use serde_json::Value;
use tests::api::{Api, Who};
use tests::{World, text};

#[test]
fn the_checked_in_document_is_what_the_code_says() {
    tests::reviewed(
        "docs/openapi.json",
        &format!("{}\n", serde_json::to_string_pretty(&tests::api::openapi()).expect("JSON")),
    );
}

/// What a handler takes, by its arguments, is what its document names: a typed client can send no
/// other header and no other parameter.
#[test]
fn every_handler_documents_the_headers_and_the_query_that_it_takes() {
    let document = Regex::new(r"(?s)#\[utoipa::path\((.*?)\)\]\s*pub\(crate\) async fn .*?\{")
        .expect("a pattern");
    let query = Regex::new(r"Query<(\w+)>").expect("a pattern");
    let mut handlers = 0;
    for path in tests::sources("functions") {
        let text = std::fs::read_to_string(&path).expect("a source file");
        for handler in document.captures_iter(&text) {
            let (whole, said) = (&handler[0], &handler[1]);
            let taken = &whole[said.len()..];
            let path = path.display();
            for (argument, header) in [("IfMatch", "If-Match"), ("Idempotent<", "Idempotency-Key")]
            {
                assert_eq!(
                    taken.contains(argument),
                    said.contains(&format!("(\"{header}\" = Option<String>, Header)")),
                    "{path}: {header}"
                );
            }
            let filter = query.captures(taken).map(|found| found[1].to_owned());
            let params = said.split_once("params(").map(|(_, rest)| rest.trim_start());
            let named = params
                .and_then(|rest| rest.split([',', ')']).next())
                .filter(|name| !name.starts_with('('));
            assert_eq!(filter.as_deref(), named, "{path}: the query");
            handlers += 1;
        }
    }
    assert_eq!(handlers, operations().len(), "a handler that is not seen here");
}

/// A field that may be null is there, in every answer; a field of a body may also be absent.
#[test]
fn every_field_of_an_answer_that_may_be_null_is_required() {
    let document = tests::api::openapi();
    let audit = &document["components"]["schemas"]["AuditRow"];
    for field in ["tenant_id", "details"] {
        let required = audit["required"].as_array().expect("fields");
        assert!(required.contains(&Value::from(field)), "{field}: {required:?}");
    }
    let update = &document["components"]["schemas"]["TenantUpdate"];
    assert!(update["required"].is_null(), "{update}");
}

/// A route: method, path with something in each parameter, and the operation.
fn operations() -> Vec<(String, String, Value)> {
    let document = tests::api::openapi();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let mut filled = path.clone();
            for parameter in operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "path")
            {
                let value =
                    if parameter["schema"]["type"] == "integer" { "1" } else { "SUB-2026-0001" };
                filled = filled.replace(&format!("{{{}}}", text(&parameter["name"])), value);
            }
            all.push((method.to_uppercase(), filled, operation.clone()));
        }
    }
    assert!(all.len() >= 60, "{}", all.len());
    all
}

/// The roles that may call; none where everybody may.
fn roles(operation: &Value) -> Option<Vec<String>> {
    let schemes = operation["security"].as_array().expect("security");
    let roles = schemes
        .iter()
        .filter_map(|scheme| scheme["token"].as_array())
        .flatten()
        .map(text)
        .collect();
    (!schemes.is_empty()).then_some(roles)
}

/// Each body has an example, and the route takes it: what it may answer is about what is there, not
/// about the body.
#[tokio::test]
async fn every_body_has_an_example_that_its_route_takes() {
    let world = World::new().await;
    world
        .db
        .execute("INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme')", &[])
        .await
        .expect("a tenant");
    let api = world.api().await;
    let document = tests::api::openapi();
    let mut examples = std::collections::BTreeSet::new();
    for (method, path, operation) in operations() {
        if operation["requestBody"].is_null() {
            continue;
        }
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let is_list = schema["type"] == "array";
        let name = text(if is_list { &schema["items"]["$ref"] } else { &schema["$ref"] })
            .replace("#/components/schemas/", "");
        let mut example = document["components"]["schemas"][&name]["examples"][0].clone();
        assert!(!example.is_null(), "{name} has no example in shared/src/http/examples.json");
        if name == "NewBreakerApproval" {
            // Only the next days are taken, and an example is for years.
            example["approve_until"] =
                Value::from((world.clock.now() + jiff::SignedDuration::from_hours(1)).to_string());
        }
        let body = if is_list { Value::Array(vec![example]) } else { example };
        let who = match roles(&operation) {
            _ if path.starts_with("/api/v1/operator/") => Who::Admin,
            Some(roles) if roles == ["service"] => Who::Service,
            _ => Who::Customer("acme"),
        };
        let reply = api.send(who, &method, &path, &[], Some(body)).await;
        let refused = ["malformed_json", "no_fields", "unsupported_media_type", "invalid"]
            .iter()
            .any(|code| reply.body["code"] == *code);
        assert!(!refused && reply.status < 500, "{method} {path}: {}", reply.body);
        examples.insert(name);
    }
    let known: std::collections::BTreeMap<String, Value> =
        serde_json::from_str(include_str!("../../shared/src/http/examples.json")).expect("JSON");
    assert!(examples.iter().eq(known.keys()), "every example is of some body");
}

#[tokio::test]
async fn every_route_refuses_the_anonymous_and_the_wrong_role() {
    let world = World::new().await;
    world
        .db
        .execute("INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme')", &[])
        .await
        .expect("a tenant");
    let api = world.api().await;
    let everyone = [
        ("operator", Who::Operator),
        ("operator_admin", Who::Admin),
        ("service", Who::Service),
        ("customer", Who::Customer("acme")),
    ];
    for (method, path, operation) in operations() {
        let call = async |who| {
            api.send(
                who,
                &method,
                &path,
                &[],
                (method != "GET").then(|| Value::Object(serde_json::Map::new())),
            )
            .await
        };
        let Some(roles) = roles(&operation) else {
            assert_eq!(call(Who::Nobody).await.status, 200, "{method} {path}");
            continue;
        };
        assert!(!roles.is_empty(), "{method} {path} names no role");
        call(Who::Nobody).await.problem(401, "missing_token");
        assert_eq!(call(Who::Nobody).await.header("www-authenticate"), "Bearer");
        for (role, who) in everyone {
            let allowed = roles.iter().any(|wanted| wanted == role)
                || (role == "operator_admin" && roles.iter().any(|wanted| wanted == "operator"));
            let reply = call(who).await;
            assert_eq!(reply.status == 403, !allowed, "{role}: {method} {path}: {}", reply.body);
            assert_ne!(reply.status, 401, "{role}: {method} {path}");
        }
    }
}

/// On the running stack each function has only its own routes and its own roles: a route that no
/// function has would be `{"message"}`.
#[tokio::test]
async fn every_route_reaches_its_function_at_the_stacks_address() {
    let api = Api::of_stack();
    for (method, path, operation) in operations() {
        let reply = api.send(Who::Nobody, &method, &path, &[], None).await;
        assert_eq!(
            reply.status,
            if roles(&operation).is_some() { 401 } else { 200 },
            "{method} {path}: {}",
            reply.body
        );
        assert!(!reply.header("x-request-id").is_empty(), "{method} {path}");
    }
    assert_eq!(
        api.get(Who::Nobody, "/api/v1/nowhere").await.expect(404),
        serde_json::json!({"message": "Not Found"})
    );
}

#[tokio::test]
async fn the_served_document_is_the_repositorys() {
    let world = World::new().await;
    let served = world.api().await.get(Who::Nobody, "/openapi.json").await.expect(200);
    assert!(
        served == tests::api::openapi(),
        "the function was built with another docs/openapi.json"
    );
}
