//! The REST API and the hosted payment page over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde_json::{Map, Value, json};

use super::objects::{self, text};
use super::state::{ApiError, Payment, Result, State as Store};
use super::{Address, Core, Payer};
use crate::server::{escape, lock, pairs};

pub(super) fn router(core: Arc<Core>) -> Router {
    Router::new()
        .route("/pay/{session}", get(pay_page).post(pay))
        .route("/pay/portal/{session}", get(portal_page))
        .route("/pay/{session}/settle", post(settle))
        .route("/pay/{session}/fail", post(fail))
        .fallback(api)
        .with_state(core)
}

/// Collections of the API: path, object, filters of its list.
const COLLECTIONS: [(&str, &str, &[&str]); 7] = [
    ("customers", "customer", &["email"]),
    ("prices", "price", &["active", "currency", "product", "type"]),
    ("billing_portal/sessions", "billing_portal.session", &[]),
    ("checkout/sessions", "checkout.session", &["customer", "payment_intent", "status", "subscription"]),
    ("subscriptions", "subscription", &["customer", "status"]),
    ("invoices", "invoice", &["customer", "status"]),
    ("events", "event", &["type"]),
];

const CUSTOMER_PARAMS: [&str; 7] = ["address", "description", "email", "expand", "metadata", "name", "phone"];
const PORTAL_PARAMS: [&str; 3] = ["customer", "expand", "return_url"];
const PRICE_PARAMS: [&str; 9] = ["active", "currency", "expand", "lookup_key", "metadata", "nickname", "product", "recurring", "unit_amount"];
const SESSION_PARAMS: [&str; 17] = [
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
    "phone_number_collection",
    "subscription_data",
    "success_url",
    "ui_mode",
];

async fn api(State(core): State<Arc<Core>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut store = lock(&core.state);
    let request_id = store.id("req_", 14);
    let mut replayed = false;
    let result = authenticate(&core, header("authorization")).and_then(|()| {
        let encoded = if method == Method::POST { str::from_utf8(&body).unwrap_or_default() } else { uri.query().unwrap_or_default() };
        let asked = pairs(encoded);
        let key = header("idempotency-key").filter(|_| method == Method::POST);
        // Parameters are compared, not their order.
        let mut parameters = asked.clone();
        parameters.sort();
        let fingerprint = format!("{} {parameters:?}", uri.path());
        if let Some((first, answer)) = key.and_then(|key| store.answered.get(key)) {
            if *first != fingerprint {
                let message = "Keys for idempotent requests can only be used with the same parameters they were first used with.";
                return Err(ApiError { kind: "idempotency_error", ..ApiError::invalid(message) });
            }
            replayed = true;
            return Ok(answer.clone());
        }
        if let Some(key) = key {
            replayed = store.failed.contains(key);
            if replayed || store.failing.take_if(|part| uri.path().contains(part.as_str())).is_some() {
                store.failed.insert(key.to_owned());
                return Err(ApiError { kind: "api_error", ..ApiError::invalid("An unknown error occurred").status(500) });
            }
        }
        let answer = dispatch(&mut store, &method, uri.path(), &nest(&asked)?)?;
        // As at Stripe, what was refused before it began is not remembered.
        if let Some(key) = key {
            store.answered.insert(key.to_owned(), (fingerprint, answer.clone()));
        }
        Ok(answer)
    });
    let mut response = match result {
        Ok(value) => (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response(),
        Err(error) => error.into_response(),
    };
    if replayed {
        response.headers_mut().insert("Idempotent-Replayed", header::HeaderValue::from_static("true"));
    }
    if let Ok(id) = request_id.parse() {
        response.headers_mut().insert("Request-Id", id);
    }
    response
}

fn authenticate(core: &Core, authorization: Option<&str>) -> Result<()> {
    let message = match authorization {
        Some(value) if value.strip_prefix("Bearer ") == Some(&core.secret_key) || value == core.basic => {
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
    let mut answer = match (method.as_str(), kind, rest.as_slice()) {
        // Stripe opens portal sessions only: they cannot be read again.
        ("GET", "billing_portal.session", _) => return Err(unrecognized()),
        ("GET", _, []) => list(store, path, kind, filters, params)?,
        ("GET", "checkout.session", [id, "line_items"]) => {
            existing(store, kind, id)?;
            store.line_items(id)
        }
        ("GET", _, [id]) => {
            only(params, "", &["expand"])?;
            existing(store, kind, id)?
        }
        ("POST", "customer", []) => {
            only(params, "", &CUSTOMER_PARAMS)?;
            store.create_customer(params)
        }
        ("POST", "price", []) => create_price(store, params)?,
        ("POST", "billing_portal.session", []) => {
            only(params, "", &PORTAL_PARAMS)?;
            store.create_portal(params)?
        }
        ("POST", "checkout.session", []) => create_session(store, params)?,
        ("POST", "checkout.session", [id, "expire"]) => store.expire(id)?,
        ("DELETE", "subscription", [id]) => {
            only(params, "", &["expand"])?;
            store.cancel(id)?
        }
        _ => return Err(unrecognized()),
    };
    for path in params["expand"].as_object().into_iter().flatten() {
        expand(store, &mut answer, path.1.as_str().unwrap_or_default())?;
    }
    Ok(answer)
}

fn existing(store: &Store, kind: &str, id: &str) -> Result<Value> {
    store.find(kind, id).cloned().ok_or_else(|| ApiError::missing(kind, id, "id").status(404))
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

fn create_session(store: &mut Store, params: &Value) -> Result<Value> {
    only(params, "", &SESSION_PARAMS)?;
    only(&params["subscription_data"], "subscription_data", &["metadata"])?;
    only(&params["invoice_creation"], "invoice_creation", &["enabled", "invoice_data"])?;
    for (index, item) in params["line_items"].as_object().into_iter().flatten() {
        only(item, &format!("line_items[{index}]"), &["price", "quantity"])?;
    }
    store.create_session(params)
}

/// Refuses parameters that are not simulated.
fn only(params: &Value, parent: &str, known: &[&str]) -> Result<()> {
    let unknown = params.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).find(|key| !known.contains(key));
    let Some(key) = unknown else { return Ok(()) };
    let param = if parent.is_empty() { key.to_owned() } else { format!("{parent}[{key}]") };
    Err(ApiError::invalid(format!("Received unknown parameter: {param}")).code("parameter_unknown", param))
}

fn list(store: &Store, path: &str, kind: &str, filters: &[&str], params: &Value) -> Result<Value> {
    let known: Vec<_> = filters.iter().copied().chain(["created", "expand", "limit", "starting_after"]).collect();
    only(params, "", &known)?;
    let limit = text(params, "limit").parse::<usize>().unwrap_or(10);
    let after = text(params, "starting_after");
    let matches = |object: &&Value| {
        let ended = kind == "subscription" && object["status"] == "canceled";
        let created = object["created"].as_i64().unwrap_or_default();
        let in_range = params["created"].as_object().into_iter().flatten().all(|(bound, value)| {
            let value = value.as_str().and_then(|value| value.parse().ok()).unwrap_or_default();
            match bound.as_str() {
                "gt" => created > value,
                "gte" => created >= value,
                "lt" => created < value,
                _ => created <= value,
            }
        });
        let equal = filters.iter().all(|key| match params[*key].as_str() {
            None => *key != "status" || !ended,
            Some("all") if *key == "status" => true,
            Some(wanted) => object[*key].as_str() == Some(wanted) || object[*key].as_bool().is_some_and(|is| is.to_string() == wanted),
        });
        in_range && equal
    };
    // Newest first, as everywhere in Stripe.
    let newest = store.all(kind).rev().skip_while(|object| !after.is_empty() && object["id"] != after);
    let mut found = newest.skip(usize::from(!after.is_empty())).filter(matches);
    let page: Vec<Value> = found.by_ref().take(limit).cloned().collect();
    Ok(objects::list(path, &page, found.next().is_some()))
}

/// Replaces an id by its object, along a path such as `data.customer`.
fn expand(store: &Store, value: &mut Value, path: &str) -> Result<()> {
    let (head, rest) = path.split_once('.').unwrap_or((path, ""));
    if let Some(data) = value["data"].as_array_mut().filter(|_| head == "data") {
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

/// Nests the bracket keys of a form: `a[b][0]=x` is `{"a":{"b":{"0":"x"}}}`; `a[]` counts up.
fn nest(pairs: &[(String, String)]) -> Result<Value> {
    let mut root = json!({});
    for (key, value) in pairs {
        let (head, rest) = key.split_once('[').map_or((key.as_str(), None), |(head, rest)| (head, Some(rest)));
        let inner = rest.map(|rest| rest.strip_suffix(']').unwrap_or(rest).split("]["));
        let mut node = &mut root;
        for segment in std::iter::once(head).chain(inner.into_iter().flatten()) {
            if node.is_null() {
                *node = Value::Object(Map::new());
            }
            let fields = node.as_object_mut().ok_or_else(|| ApiError::invalid(format!("Invalid object: {key}")))?;
            let name = if segment.is_empty() { fields.len().to_string() } else { segment.to_owned() };
            node = fields.entry(name).or_insert(Value::Null);
        }
        *node = json!(value);
    }
    Ok(root)
}

/// An injected fault in Stripe's words.
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

async fn pay_page(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Response {
    page(&lock(&core.state), &id, StatusCode::OK, "")
}

/// The page, while the session is open; afterwards a line that says how it stands.
fn page(store: &Store, id: &str, status: StatusCode, message: &str) -> Response {
    let Some(session) = store.find("checkout.session", id) else {
        return (StatusCode::NOT_FOUND, Html("<p>Something went wrong: no such session.")).into_response();
    };
    let state = text(session, "status");
    if state != "open" {
        return (StatusCode::OK, Html(format!("<p>This session is {state}."))).into_response();
    }
    let money = |cents: &Value| {
        let cents = cents.as_i64().unwrap_or_default();
        format!("${}.{:02}", cents / 100, cents % 100)
    };
    let items = store.line_items(id);
    let mut rows = String::new();
    for item in items["data"].as_array().into_iter().flatten() {
        let name = item["description"].as_str().unwrap_or_else(|| text(&item["price"], "id"));
        let amount = money(&item["amount_total"]);
        let quantity = &item["quantity"];
        rows.extend(["<tr><td>", &quantity.to_string(), "<td>", &escape(name), "<td>", &amount]);
    }
    let company = session["metadata"]["company_name"].as_str().unwrap_or("a company");
    let email = escape(text(&session["customer_details"], "email"));
    let mut fields = format!("<p><label>email <input name=\"email\" value=\"{email}\"></label>");
    for field in ["name", "phone", "line1", "line2", "city", "state", "postal_code", "country"] {
        fields.extend(["<p><label>", field, " <input name=\"", field, "\"></label>"]);
    }
    let html = format!(
        "<!doctype html><title>Checkout (simulator)</title><h1>Checkout for {company}</h1><p>{message}\
         <table>{rows}</table><p>Total {total}<form method=\"post\">{fields}\
         <p><button name=\"outcome\" value=\"paid\">Pay</button> \
         <button name=\"outcome\" value=\"async\">Pay later (bank debit)</button> \
         <button name=\"outcome\" value=\"declined\">Decline</button></form>",
        company = escape(company),
        total = money(&session["amount_total"]),
    );
    (status, Html(html)).into_response()
}

async fn pay(State(core): State<Arc<Core>>, Path(id): Path<String>, body: Bytes) -> Response {
    let mut form = pairs(str::from_utf8(&body).unwrap_or_default());
    let mut field = |name: &str| {
        let index = form.iter().position(|(key, value)| key == name && !value.is_empty())?;
        Some(form.swap_remove(index).1)
    };
    let outcome = field("outcome").unwrap_or_default();
    let email = field("email").unwrap_or_default();
    let (name, phone) = (field("name"), field("phone"));
    let address = Address {
        line1: field("line1"),
        line2: field("line2"),
        city: field("city"),
        state: field("state"),
        postal_code: field("postal_code"),
        country: field("country"),
    };
    let address = (address.line1.is_some() || address.country.is_some()).then_some(address);
    let payer = Payer { email, name, phone, address };
    let mut store = lock(&core.state);
    let result = match outcome.as_str() {
        "paid" => store.complete(&id, payer, Payment::Now),
        "async" => store.complete(&id, payer, Payment::Later),
        // Stripe leaves the session open for another try.
        "declined" => {
            return page(&store, &id, StatusCode::PAYMENT_REQUIRED, "Your card was declined.");
        }
        _ => Err(ApiError::invalid("outcome must be paid, async or declined")),
    };
    match result {
        Ok(session) => {
            let url = text(&session, "success_url").replace("{CHECKOUT_SESSION_ID}", &id);
            Redirect::to(&url).into_response()
        }
        Err(error) => error.into_response(),
    }
}

/// The portal leads back; what else customers do there, tests and the Dashboard's calls do.
async fn portal_page(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Response {
    let store = lock(&core.state);
    let Some(session) = store.find("billing_portal.session", &id) else {
        return (StatusCode::NOT_FOUND, Html("<p>Something went wrong: no such session.")).into_response();
    };
    let back = match text(session, "return_url") {
        "" => String::new(),
        url => format!("<p><a href=\"{}\">Back</a>", escape(url)),
    };
    Html(format!("<!doctype html><title>Billing portal (simulator)</title><h1>Billing portal of {}</h1>{back}", escape(text(session, "customer"))))
        .into_response()
}

async fn settle(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Response {
    answer(lock(&core.state).settle(&id))
}

async fn fail(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Response {
    answer(lock(&core.state).fail_async(&id))
}

fn answer(result: Result<Value>) -> Response {
    result.map_or_else(IntoResponse::into_response, |value| axum::Json(value).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bracket_keys_nest_and_empty_brackets_count_up() {
        let form = "mode=payment&line_items%5B0%5D%5Bprice%5D=p&line_items[0][quantity]=2&expand[]=a&expand[]=b&metadata[k]=a+b%26c";
        let expected = json!({
            "mode": "payment", "line_items": { "0": { "price": "p", "quantity": "2" } },
            "expand": { "0": "a", "1": "b" }, "metadata": { "k": "a b&c" },
        });
        assert_eq!(nest(&pairs(form)).expect("a form"), expected);
        assert!(nest(&pairs("a=1&a[b]=2")).is_err());
    }
}
