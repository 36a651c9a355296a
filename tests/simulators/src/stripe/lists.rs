//! Lists: filters, pages and expanded objects.

use serde_json::Value;
use serde_json::json;

use super::bounds;
use super::http::only;
use super::ledger;
use super::objects;
use super::objects::ordered;
use super::objects::text;
use super::state::ApiError;
use super::state::Result;
use super::state::State as Store;

/// How many entries a list has that is part of an object. The list's own route has the others.
const SHOWN: usize = 10;

/// Shortens the lists within an object to their first page.
pub(super) fn abridge(object: &mut Value) {
    match object {
        Value::Object(fields) => {
            for (_, field) in fields.iter_mut() {
                let entries = field.get_mut("data").and_then(Value::as_array_mut);
                if let Some(entries) = entries.filter(|entries| entries.len() > SHOWN) {
                    entries.truncate(SHOWN);
                    field["has_more"] = json!(true);
                }
                abridge(field);
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(abridge),
        _ => {}
    }
}

/// Returns the page of a list that `limit` and `starting_after` ask for. `filters` are the other
/// parameters that the list takes.
pub(super) fn page(
    path: &str,
    kind: &str,
    entries: &[Value],
    params: &Value,
    filters: &[&str],
) -> Result<Value> {
    let known: Vec<_> = filters.iter().copied().chain(PAGING).collect();
    only(params, "", &known)?;
    let limit = limit(params)?;
    let position = |after: &str| entries.iter().position(|entry| entry["id"] == after);
    let start = match params["starting_after"].as_str() {
        None => 0,
        Some(after) => {
            1 + position(after).ok_or_else(|| ApiError::missing(kind, after, "starting_after"))?
        }
    };
    let rest = &entries[start..];
    Ok(objects::list(path, &rest[..rest.len().min(limit)], rest.len() > limit))
}

const PAGING: [&str; 3] = ["expand", "limit", "starting_after"];

fn limit(params: &Value) -> Result<usize> {
    match params["limit"].as_str().map_or(Ok(SHOWN), str::parse) {
        Ok(limit @ 1..=100) => Ok(limit),
        _ => Err(ApiError::invalid("Invalid limit: must be an integer from 1 to 100.")
            .code("parameter_invalid_integer", "limit")),
    }
}

/// Returns a page of all objects of a kind, newest first, as all lists of Stripe are.
pub(super) fn list(
    store: &Store,
    path: &str,
    kind: &str,
    filters: &[&str],
    params: &Value,
) -> Result<Value> {
    let known: Vec<_> = filters.iter().copied().chain(["created"]).chain(PAGING).collect();
    only(params, "", &known)?;
    let limit = limit(params)?;
    let after = text(params, "starting_after");
    if !after.is_empty() && store.find(kind, after).is_none() {
        return Err(ApiError::missing(kind, after, "starting_after"));
    }
    let types = ordered(&params["types"]);
    if !types.is_empty() && params["type"].is_string() {
        let message = "You may only specify one of these parameters: type, types.";
        return Err(ApiError::invalid(message));
    }
    bounds::check_count(types.len(), bounds::TYPES, "types")?;
    let matches = |object: &&Value| {
        object["deleted"] != true
            && (kind != "event" || retained(store, object))
            && is_created_within(object, &params["created"])
            && filters.iter().all(|key| has(object, key, params[*key].as_str()))
            && (types.is_empty() || types.iter().any(|(_, wanted)| **wanted == object["type"]))
    };
    let newest =
        store.all(kind).rev().skip_while(|object| !after.is_empty() && object["id"] != after);
    let mut found = newest.skip(usize::from(!after.is_empty())).filter(matches);
    let page: Vec<Value> = found.by_ref().take(limit).cloned().collect();
    Ok(objects::list(path, &page, found.next().is_some()))
}

/// Returns whether the API still returns an event: it does so for 30 days.
pub(super) fn retained(store: &Store, event: &Value) -> bool {
    event["created"]
        .as_i64()
        .is_some_and(|created| created >= store.stamp().created() - 30 * 86_400)
}

fn is_created_within(object: &Value, range: &Value) -> bool {
    let created = object["created"].as_i64().unwrap_or_default();
    range.as_object().into_iter().flatten().all(|(bound, value)| {
        let value = value.as_str().and_then(|value| value.parse().ok()).unwrap_or_default();
        match bound.as_str() {
            "gt" => created > value,
            "gte" => created >= value,
            "lt" => created < value,
            _ => created <= value,
        }
    })
}

/// Returns whether a filter lets an object through. `None` is a filter that is not set.
fn has(object: &Value, filter: &str, wanted: Option<&str>) -> bool {
    let kind = text(object, "object");
    match (kind, filter, wanted) {
        // Without a filter, what has ended is left out.
        ("subscription", "status", None) => object["status"] != "canceled",
        (_, _, None) | ("subscription", "status", Some("all")) => true,
        ("invoice", "subscription", Some(wanted)) => ledger::subscription_of(object) == wanted,
        ("invoiceitem", "pending", Some(wanted)) => {
            object["invoice"].is_null().to_string() == wanted
        }
        ("event", "type", Some(wanted)) => match wanted.strip_suffix('*') {
            Some(group) => text(object, "type").starts_with(group),
            None => object["type"] == wanted,
        },
        (_, _, Some(wanted)) => {
            object[filter].as_str() == Some(wanted)
                || object[filter].as_bool().is_some_and(|is| is.to_string() == wanted)
        }
    }
}

/// Replaces an id with its object, along a path such as `data.customer`.
pub(super) fn expand(store: &Store, value: &mut Value, path: &str) -> Result<()> {
    let (head, rest) = path.split_once('.').unwrap_or((path, ""));
    if let Some(data) =
        value.get_mut("data").and_then(Value::as_array_mut).filter(|_| head == "data")
    {
        return data.iter_mut().try_for_each(|item| expand(store, item, rest));
    }
    if head == "line_items" && value["object"] == "checkout.session" {
        value["line_items"] = store.line_items(text(value, "id"));
    }
    let Some(field) = value.get_mut(head) else {
        let message = format!("This property cannot be expanded ({head}).");
        return Err(ApiError::invalid(message));
    };
    if let Some(object) = field.as_str().and_then(|id| store.object(id)) {
        *field = object.clone();
    }
    if rest.is_empty() || field.is_null() { Ok(()) } else { expand(store, field, rest) }
}
