//! The OpenAPI document. A route says only what is special to it; the rest is added here.

use serde_json::{Value, json};
use utoipa::openapi::OpenApi;

use crate::base::codes::ProblemCode;
use crate::base::error::FieldFault;

/// The document's schema of a path parameter, by its name.
fn path_parameter(name: &str) -> Value {
    use crate::base::fields::Described;
    use crate::base::ids::{
        DeviceId, PlanId, StripeEventId, StripeSessionId, SubscriptionId, TenantId,
    };
    let schema = match name {
        "plan_id" => json!(<PlanId as Described>::schema()),
        "tenant_id" => json!(<TenantId as Described>::schema()),
        "subscription_id" => json!(<SubscriptionId as Described>::schema()),
        "device_id" => json!(<DeviceId as Described>::schema()),
        "event_id" => json!(<StripeEventId as Described>::schema()),
        "session_id" => json!(<StripeSessionId as Described>::schema()),
        "user_id" => json!({"type": "string", "minLength": 1, "maxLength": 100}),
        _ => json!({"type": "integer", "format": "int64", "minimum": 1}),
    };
    json!({"name": name, "in": "path", "required": true, "schema": schema})
}

/// Merges the functions' documents, and adds the answers that every route can give.
#[must_use]
pub fn document(parts: Vec<OpenApi>) -> Value {
    let mut whole = OpenApi::default();
    for part in parts {
        whole.merge(part);
    }
    let mut document = serde_json::to_value(&whole).unwrap_or_default();
    document["openapi"] = json!("3.1.0");
    document["info"]["title"] = json!("Pulse Billing");
    document["info"]["version"] = json!("1");
    document["info"]["description"] = json!(
        "Subscriptions, provisioning and entitlements of a multi-tenant IoT platform. \
         Conventions: docs/api.md."
    );
    document["info"]["license"] = json!({"name": "Apache-2.0", "identifier": "Apache-2.0"});
    document["components"]["securitySchemes"]["token"] =
        json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT"});
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.values_mut().for_each(require_what_may_be_null);
    }
    document["components"]["schemas"]["ProblemCode"] =
        json!(<ProblemCode as utoipa::PartialSchema>::schema());
    document["components"]["schemas"]["Problem"] = problem();
    document["components"]["responses"]["Problem"] = json!({
        "description": "A problem (RFC 9457).",
        "headers": {"X-Request-Id": {"description": "Names the request.",
            "schema": {"type": "string"}}},
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        },
    });
    let examples: serde_json::Map<String, Value> =
        serde_json::from_str(EXAMPLES).unwrap_or_default();
    for (name, example) in examples {
        document["components"]["schemas"][&name]["examples"] = json!([example]);
    }
    let schemas = document["components"]["schemas"].clone();
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, item) in paths {
            for (method, operation) in item.as_object_mut().into_iter().flatten() {
                complete(path, method, operation);
                // A body without required fields is optional.
                let name =
                    operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                        .as_str()
                        .and_then(|name| name.rsplit('/').next());
                if name.is_some_and(|name| {
                    schemas[name]["type"] == "object"
                        && schemas[name]["required"].as_array().is_none_or(Vec::is_empty)
                }) {
                    operation["requestBody"]["required"] = json!(false);
                }
            }
        }
    }
    document
}

/// An answer has every field, empty ones as `null` (docs/api.md, "Bodies"): those that may be null
/// are required too. A field that may be absent has no `null` in its schema. In a body, which takes
/// no unknown fields, a field that may be null may also be absent.
fn require_what_may_be_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(require_what_may_be_null),
        Value::Object(object) => {
            object.values_mut().for_each(require_what_may_be_null);
            let is_body = object.get("additionalProperties") == Some(&json!(false));
            let fields = object.get("properties").and_then(Value::as_object).filter(|_| !is_body);
            let empty: Vec<Value> = fields
                .into_iter()
                .flatten()
                .filter(|(_, field)| may_be_null(field))
                .map(|(name, _)| json!(name))
                .collect();
            if empty.is_empty() {
                return;
            }
            let required = object.entry("required").or_insert_with(|| json!([]));
            if let Some(required) = required.as_array_mut() {
                let new = empty.into_iter().filter(|name| !required.contains(name));
                let new: Vec<Value> = new.collect();
                required.extend(new);
            }
        }
        _ => {}
    }
}

fn may_be_null(field: &Value) -> bool {
    let null = json!("null");
    let is_any = ["type", "$ref", "oneOf", "anyOf", "allOf"].iter().all(|key| field[key].is_null());
    let alternatives = field["oneOf"].as_array().into_iter().flatten();
    is_any
        || field["type"].as_array().is_some_and(|types| types.contains(&null))
        || alternatives.into_iter().any(|schema| schema["type"] == null)
}

/// One example of each request body, by the name of its schema.
const EXAMPLES: &str = include_str!("examples.json");

/// Adds to a route what follows from the parts of its request.
fn complete(path: &str, method: &str, operation: &mut Value) {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let mut parameters: Vec<Value> = names.map(path_parameter).collect();
    parameters.extend(operation["parameters"].as_array().cloned().unwrap_or_default());
    let has = |place: &str, name: &str| {
        parameters.iter().any(|parameter| {
            parameter["in"] == place && (name.is_empty() || parameter["name"] == name)
        })
    };
    // An empty scheme says: no token.
    let public = operation["security"] == json!([{}]);
    let body = operation["requestBody"].is_object();
    let mut statuses = vec![500, 503];
    if public {
        operation["security"] = json!([]);
    } else {
        statuses.extend([401, 403]);
        if operation["security"].is_null() {
            // The role that the caller needs, as OpenAPI 3.1 has it for schemes without scopes.
            let role = match (path.split('/').nth(3), method) {
                (Some("operator"), "get") => "operator",
                (Some("operator"), _) => "operator_admin",
                (Some("service"), _) => "service",
                _ => "customer",
            };
            operation["security"] = json!([{"token": [role]}]);
        }
    }
    if has("path", "") {
        statuses.push(404);
    }
    if has("query", "") || body {
        statuses.extend([400, 422]);
    }
    if body {
        statuses.extend([413, 415]);
    }
    if has("header", "If-Match") {
        statuses.push(412);
    }
    if has("header", "Idempotency-Key") {
        statuses.extend([409, 422]);
    }
    for status in statuses {
        let answer = &mut operation["responses"][status.to_string()];
        if answer.is_null() {
            *answer = json!({"$ref": "#/components/responses/Problem"});
        }
    }
    if let Some(responses) = operation["responses"].as_object_mut() {
        for (status, answer) in responses {
            if answer["content"].is_null() && answer["$ref"].is_null() && status.as_str() >= "400" {
                let schema = json!({"$ref": "#/components/schemas/Problem"});
                answer["content"] = json!({"application/problem+json": {"schema": schema}});
            }
        }
    }
    for parameter in &mut parameters {
        match parameter["name"].as_str() {
            Some("Idempotency-Key") => {
                parameter["schema"] = json!({"type": "string", "pattern": "^[!-~]{1,255}$"});
            }
            Some("If-Match") => {
                parameter["schema"] = json!({"type": "string", "examples": ["\"1\""]});
            }
            _ => {}
        }
    }
    if !parameters.is_empty() {
        operation["parameters"] = json!(parameters);
    }
}

fn problem() -> Value {
    let fault = <FieldFault as utoipa::PartialSchema>::schema();
    json!({
        "type": "object",
        "required": ["type", "title", "status", "code", "detail", "request_id"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"$ref": "#/components/schemas/ProblemCode"},
            "detail": {"type": "string", "description": "For people."},
            "request_id": {"type": "string"},
            "limit": {"type": "integer", "description": "Of a 402: the limit."},
            "used": {"type": "integer", "description": "Of a 402: how many are in use."},
            "remaining": {"type": "integer", "description": "Of a 402: how many are free."},
            "errors": {"type": "array", "items": fault,
                "description": "Of a 422: each invalid field."},
        },
        "example": {"type": "about:blank", "title": "Not Found", "status": 404,
            "code": "plan_not_found", "detail": "Plan not found", "request_id": "JKJaXmPLvHcESHA="},
    })
}
