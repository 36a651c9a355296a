//! The REST API over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Core;
use super::bounds;
use super::lists;
use super::objects::ordered;
use super::objects::text;
use super::pages;
use super::portal;
use super::state::ApiError;
use super::state::Result;
use super::state::State as Store;
use super::time;
use crate::server::lock;
use crate::server::pairs;

pub(super) fn router(core: Arc<Core>) -> Router {
    pages::router().merge(time::router()).fallback(api).with_state(core)
}

/// Collections of the API: path, object type, and filters of the list.
const COLLECTIONS: [(&str, &str, &[&str]); 11] = [
    ("customers", "customer", &["email"]),
    ("prices", "price", &["active", "currency", "product", "type"]),
    ("billing_portal/sessions", "billing_portal.session", &[]),
    ("billing_portal/configurations", "billing_portal.configuration", &["active", "is_default"]),
    (
        "checkout/sessions",
        "checkout.session",
        &["customer", "payment_intent", "status", "subscription"],
    ),
    ("subscriptions", "subscription", &["customer", "status"]),
    ("subscription_items", "subscription_item", &["subscription"]),
    ("invoices", "invoice", &["customer", "status", "subscription"]),
    ("invoiceitems", "invoiceitem", &["customer", "invoice", "pending"]),
    ("charges", "charge", &["customer", "payment_intent"]),
    ("events", "event", &["type", "types"]),
];

const CUSTOMER_PARAMS: [&str; 7] =
    ["address", "description", "email", "expand", "metadata", "name", "phone"];
const ADDRESS_PARAMS: [&str; 6] = ["city", "country", "line1", "line2", "postal_code", "state"];
const PORTAL_PARAMS: [&str; 4] = ["configuration", "customer", "expand", "return_url"];
const INVOICE_ITEM_PARAMS: [&str; 7] =
    ["amount", "currency", "customer", "description", "expand", "metadata", "subscription"];
const PRICE_PARAMS: [&str; 9] = [
    "active",
    "currency",
    "expand",
    "lookup_key",
    "metadata",
    "nickname",
    "product",
    "recurring",
    "unit_amount",
];
const SESSION_PARAMS: [&str; 19] = [
    "allowed_payment_method_types",
    "billing_address_collection",
    "cancel_url",
    "client_reference_id",
    "customer",
    "customer_creation",
    "customer_email",
    "expand",
    "expires_at",
    "invoice_creation",
    "line_items",
    "locale",
    "metadata",
    "mode",
    "payment_intent_data",
    "phone_number_collection",
    "subscription_data",
    "success_url",
    "ui_mode",
];

const SUBSCRIPTION_PARAMS: [&str; 10] = [
    "cancel_at",
    "cancel_at_period_end",
    "collection_method",
    "days_until_due",
    "expand",
    "items",
    "metadata",
    "pause_collection",
    "proration_behavior",
    "trial_end",
];

async fn api(
    State(core): State<Arc<Core>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut store = lock(&core.state);
    let request_id = store.id("req_", 14);
    let mut replayed = false;
    let result = authenticate(&core, header("authorization")).and_then(|()| {
        let mut form = if method == Method::POST {
            Vec::new()
        } else {
            pairs(uri.query().unwrap_or_default())
        };
        // Clients send the parameters of a DELETE in the query or in the body.
        form.extend(if method == Method::GET {
            Vec::new()
        } else {
            pairs(str::from_utf8(&body).unwrap_or_default())
        });
        let key = header("idempotency-key").filter(|_| method == Method::POST);
        key.map_or(Ok(()), bounds::check_key)?;
        // Sorted, because the order of parameters does not matter.
        let mut parameters = form.clone();
        parameters.sort();
        let fingerprint = format!("{} {parameters:?}", uri.path());
        if let Some((first, answer)) = key.and_then(|key| store.responses.get(key)) {
            if *first != fingerprint {
                let message = "Keys for idempotent requests can only be used with the same \
                               parameters they were first used with.";
                return Err(ApiError { kind: "idempotency_error", ..ApiError::invalid(message) });
            }
            replayed = true;
            return Ok(answer.clone());
        }
        if let Some(key) = key {
            replayed = store.failed_keys.contains(key);
            if replayed
                || store.failing_path.take_if(|part| uri.path().contains(part.as_str())).is_some()
            {
                store.failed_keys.insert(key.to_owned());
                return Err(ApiError {
                    kind: "api_error",
                    ..ApiError::invalid("An unknown error occurred").status(500)
                });
            }
        }
        let answer = dispatch(&mut store, &method, uri.path(), &nest(&form)?)?;
        // As at Stripe, a request that is rejected before its execution is not stored.
        if let Some(key) = key {
            store.responses.insert(key.to_owned(), (fingerprint, answer.clone()));
        }
        Ok(answer)
    });
    let mut response = match result {
        Ok(value) => {
            (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], value.to_string())
                .into_response()
        }
        Err(error) => error.into_response(),
    };
    if replayed {
        response
            .headers_mut()
            .insert("Idempotent-Replayed", header::HeaderValue::from_static("true"));
    }
    if let Ok(id) = request_id.parse() {
        response.headers_mut().insert("Request-Id", id);
    }
    response
}

pub(super) fn authenticate(core: &Core, authorization: Option<&str>) -> Result<()> {
    let message = match authorization {
        Some(value)
            if value.strip_prefix("Bearer ") == Some(&core.secret_key) || value == core.basic =>
        {
            return Ok(());
        }
        Some(_) => "Invalid API Key provided.",
        None => "You did not provide an API key.",
    };
    Err(ApiError::invalid(message).status(401))
}

fn dispatch(store: &mut Store, method: &Method, path: &str, params: &Value) -> Result<Value> {
    let unrecognized = || {
        let message = format!("Unrecognized request URL ({method}: {path}).");
        ApiError::invalid(message).status(404)
    };
    let path_in_api = path.strip_prefix("/v1/").ok_or_else(unrecognized)?;
    let found = COLLECTIONS.iter().find_map(|(collection, kind, filters)| {
        let rest = path_in_api.strip_prefix(collection)?;
        let segments: Vec<_> = rest.split('/').skip(1).collect();
        (rest.is_empty() || rest.starts_with('/')).then_some((*kind, *filters, segments))
    });
    let (kind, filters, rest) = found.ok_or_else(unrecognized)?;
    if method == Method::POST {
        bounds::check(kind, params)?;
    }
    let mut answer = match (method.as_str(), kind, rest.as_slice()) {
        // Portal sessions can be created, but not read.
        ("GET", "billing_portal.session", _) => return Err(unrecognized()),
        ("GET", "subscription_item", []) => {
            let items = store.items(text(params, "subscription"))?;
            lists::page(path, kind, &items, params, &["subscription"])?
        }
        ("GET", "subscription_item", [id]) => {
            only(params, "", &["expand"])?;
            store.item(id)?
        }
        ("GET", _, []) => lists::list(store, path, kind, filters, params)?,
        ("GET", "checkout.session", [id, "line_items"]) => {
            store.existing(kind, id)?;
            list_parts(path, "item", &store.line_items(id), params)?
        }
        ("GET", "invoice", [id, "lines"]) => {
            list_parts(path, "line_item", &store.existing(kind, id)?["lines"], params)?
        }
        ("GET", _, [id]) => {
            only(params, "", &["expand"])?;
            let found = store.existing(kind, id)?;
            let expired = kind == "event" && !lists::retained(store, &found);
            // Of what is deleted, only a customer can be read.
            if expired || kind == "invoiceitem" && found["deleted"] == true {
                return Err(ApiError::missing(kind, id, "id").status(404));
            }
            found
        }
        ("POST", "customer", []) => {
            check_customer(params)?;
            store.create_customer(params)
        }
        ("POST", "customer", [id]) => store.update_customer(id, params)?,
        ("POST", "price", []) => create_price(store, params)?,
        ("POST", "billing_portal.session", []) => {
            only(params, "", &PORTAL_PARAMS)?;
            store.create_portal(params)?
        }
        ("POST", "checkout.session", []) => create_session(store, params)?,
        ("POST", "checkout.session", [id, "expire"]) => {
            only(params, "", &["expand"])?;
            store.expire(id)?
        }
        ("POST", "billing_portal.configuration", []) => create_configuration(store, params)?,
        ("POST", "invoiceitem", []) => {
            only(params, "", &INVOICE_ITEM_PARAMS)?;
            store.create_invoice_item(params)?
        }
        ("DELETE", "invoiceitem", [id]) => {
            only(params, "", &[])?;
            store.delete_invoice_item(id)?
        }
        ("POST", "subscription", [id]) => {
            check_update(params)?;
            store.update_subscription(id, params)?
        }
        ("POST", "subscription_item", []) => {
            only(
                params,
                "",
                &["expand", "price", "proration_behavior", "quantity", "subscription"],
            )?;
            store.create_item(params)?
        }
        ("POST", "subscription_item", [id]) => {
            only(params, "", &["expand", "price", "proration_behavior", "quantity"])?;
            store.update_item(id, params)?
        }
        ("DELETE", "subscription_item", [id]) => {
            only(params, "", &["proration_behavior"])?;
            store.delete_item(id, params)?
        }
        ("DELETE", "subscription", [id]) => {
            only(params, "", &["expand"])?;
            store.cancel(id)?
        }
        _ => return Err(unrecognized()),
    };
    for path in params["expand"].as_object().into_iter().flatten() {
        lists::expand(store, &mut answer, path.1.as_str().unwrap_or_default())?;
    }
    match answer.get_mut("data").and_then(Value::as_array_mut) {
        Some(listed) => listed.iter_mut().for_each(lists::abridge),
        None => lists::abridge(&mut answer),
    }
    Ok(answer)
}

fn create_price(store: &mut Store, params: &Value) -> Result<Value> {
    only(params, "", &PRICE_PARAMS)?;
    only(&params["recurring"], "recurring", &["interval", "interval_count", "usage_type"])?;
    for required in ["currency", "product", "unit_amount"] {
        if params.get(required).is_none() {
            let message = format!("Missing required param: {required}.");
            return Err(ApiError::invalid(message).code("parameter_missing", required));
        }
    }
    Ok(store.create_price(params))
}

fn create_configuration(store: &mut Store, params: &Value) -> Result<Value> {
    let known =
        ["business_profile", "default_return_url", "expand", "features", "metadata", "name"];
    only(params, "", &known)?;
    only(
        &params["business_profile"],
        "business_profile",
        &["headline", "privacy_policy_url", "terms_of_service_url"],
    )?;
    for (feature, known) in portal::FEATURES {
        only(&params["features"][feature], &format!("features[{feature}]"), known)?;
    }
    only(&params["features"], "features", &portal::FEATURES.map(|(feature, _)| feature))?;
    store.create_configuration(params)
}

/// Lists what is part of an object, such as the lines of an invoice.
fn list_parts(path: &str, kind: &str, parts: &Value, params: &Value) -> Result<Value> {
    let parts = parts["data"].as_array().cloned().unwrap_or_default();
    lists::page(path, kind, &parts, params, &[])
}

pub(super) fn check_customer(params: &Value) -> Result<()> {
    only(params, "", &CUSTOMER_PARAMS)?;
    only(&params["address"], "address", &ADDRESS_PARAMS)
}

pub(super) fn create_session(store: &mut Store, params: &Value) -> Result<Value> {
    only(params, "", &SESSION_PARAMS)?;
    only(&params["subscription_data"], "subscription_data", &["metadata", "trial_period_days"])?;
    only(&params["phone_number_collection"], "phone_number_collection", &["enabled"])?;
    only(&params["payment_intent_data"], "payment_intent_data", &["description", "metadata"])?;
    only(&params["invoice_creation"], "invoice_creation", &["enabled", "invoice_data"])?;
    only(
        &params["invoice_creation"]["invoice_data"],
        "invoice_creation[invoice_data]",
        &["metadata"],
    )?;
    for (index, item) in ordered(&params["line_items"]) {
        let parent = format!("line_items[{index}]");
        only(item, &parent, &["price", "price_data", "quantity"])?;
        let parent = format!("{parent}[price_data]");
        only(
            &item["price_data"],
            &parent,
            &["currency", "product_data", "tax_behavior", "unit_amount"],
        )?;
        only(
            &item["price_data"]["product_data"],
            &format!("{parent}[product_data]"),
            &["description", "name"],
        )?;
    }
    store.create_session(params)
}

fn check_update(params: &Value) -> Result<()> {
    only(params, "", &SUBSCRIPTION_PARAMS)?;
    only(&params["pause_collection"], "pause_collection", &["behavior"])?;
    for (index, item) in ordered(&params["items"]) {
        only(item, &format!("items[{index}]"), &["deleted", "id", "price", "quantity"])?;
    }
    Ok(())
}

/// Rejects parameters that are not simulated.
pub(super) fn only(params: &Value, parent: &str, known: &[&str]) -> Result<()> {
    let unknown = params
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .find(|key| !known.contains(key));
    let Some(key) = unknown else { return Ok(()) };
    let param = if parent.is_empty() { key.to_owned() } else { format!("{parent}[{key}]") };
    Err(ApiError::invalid(format!("Received unknown parameter: {param}"))
        .code("parameter_unknown", param))
}

/// Nests the bracket keys of a form: `a[b][0]=x` is `{"a":{"b":{"0":"x"}}}`. `a[]` gets the next
/// index.
fn nest(pairs: &[(String, String)]) -> Result<Value> {
    let mut root = json!({});
    for (key, value) in pairs {
        let (head, rest) =
            key.split_once('[').map_or((key.as_str(), None), |(head, rest)| (head, Some(rest)));
        let inner = rest.map(|rest| rest.strip_suffix(']').unwrap_or(rest).split("]["));
        let mut node = &mut root;
        for segment in std::iter::once(head).chain(inner.into_iter().flatten()) {
            if node.is_null() {
                *node = Value::Object(Map::new());
            }
            let fields = node
                .as_object_mut()
                .ok_or_else(|| ApiError::invalid(format!("Invalid object: {key}")))?;
            let name =
                if segment.is_empty() { fields.len().to_string() } else { segment.to_owned() };
            node = fields.entry(name).or_insert(Value::Null);
        }
        *node = json!(value);
    }
    Ok(root)
}

/// Returns an injected fault in Stripe's error format.
pub(super) fn fault(status: StatusCode) -> Response {
    let (kind, code, message) = match status.as_u16() {
        429 => ("invalid_request_error", Some("rate_limit"), "Request rate limit exceeded."),
        400..500 => ("invalid_request_error", None, "The request was refused."),
        _ => ("api_error", None, "An unknown error occurred"),
    };
    let error = ApiError::invalid(message).status(status.as_u16());
    ([("Request-Id", "req_injectedfault")], ApiError { kind, code, ..error }).into_response()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut error = json!({ "type": self.kind, "message": self.message });
        if let Some(code) = self.code {
            error["code"] = json!(code);
        }
        if let Some(param) = self.param {
            error["param"] = json!(param);
        }
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({ "error": error }).to_string();
        (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bracket_keys_nest_and_empty_brackets_count_up() {
        let form = "mode=payment&line_items%5B0%5D%5Bprice%5D=p&line_items[0][quantity]=2\
                    &expand[]=a&expand[]=b&metadata[k]=a+b%26c";
        let expected = json!({
            "mode": "payment", "line_items": { "0": { "price": "p", "quantity": "2" } },
            "expand": { "0": "a", "1": "b" }, "metadata": { "k": "a b&c" },
        });
        assert_eq!(nest(&pairs(form)).expect("a form"), expected);
        assert!(nest(&pairs("a=1&a[b]=2")).is_err());
    }
}
