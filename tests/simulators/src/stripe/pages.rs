//! The browser pages: payment and the billing portal.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Html;
use axum::response::IntoResponse;
use axum::response::Redirect;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use serde_json::Value;

use super::Address;
use super::Card;
use super::Core;
use super::Payer;
use super::billing::ONGOING;
use super::objects::text;
use super::state::ApiError;
use super::state::PaymentTiming;
use super::state::Result;
use super::state::State as Store;
use crate::server::escape;
use crate::server::lock;
use crate::server::pairs;

pub(super) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/pay/{session}", get(pay_page).post(pay))
        .route("/pay/portal/{session}", get(portal_page).post(portal))
        .route("/pay/{session}/settle", post(settle))
        .route("/pay/{session}/fail", post(fail))
}

async fn pay_page(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Response {
    page(&lock(&core.state), &id, StatusCode::OK, "")
}

/// Renders the payment page of an open session; afterwards a line with its status.
fn page(store: &Store, id: &str, status: StatusCode, message: &str) -> Response {
    let Some(session) = store.find("checkout.session", id) else {
        return (StatusCode::NOT_FOUND, Html("<p>Something went wrong: no such session."))
            .into_response();
    };
    let session_status = text(session, "status");
    if session_status != "open" {
        return (StatusCode::OK, Html(format!("<p>This session is {session_status}.")))
            .into_response();
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
    let debited = session["payment_method_types"]
        .as_array()
        .is_some_and(|methods| methods.iter().any(|method| method == "us_bank_account"));
    let debit = if debited {
        "<button name=\"outcome\" value=\"async\">Pay later (bank debit)</button> "
    } else {
        ""
    };
    let html = format!(
        "<!doctype html><title>Checkout (simulator)</title><h1>Checkout for \
         {company}</h1><p>{message}\
         <table>{rows}</table><p>Total {total}<form method=\"post\">{fields}\
         <p><button name=\"outcome\" value=\"paid\">Pay</button> \
         {debit}<button name=\"outcome\" value=\"declined\">Decline</button></form>",
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
        "paid" => store.complete(&id, payer, PaymentTiming::Now),
        "async" => store.complete(&id, payer, PaymentTiming::Later),
        // As at Stripe, the session stays open for another attempt.
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

/// Serves the portal page, where a customer changes the plan, cancels or resumes, and updates the
/// card.
async fn portal_page(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Response {
    let store = lock(&core.state);
    let Some(session) = store.find("billing_portal.session", &id) else {
        return (StatusCode::NOT_FOUND, Html("<p>Something went wrong: no such session."))
            .into_response();
    };
    let customer = text(session, "customer");
    let plans: String = store
        .all("price")
        .filter(|price| price["active"] == true && price["recurring"].is_object())
        .map(plan_option)
        .collect();
    let theirs = store
        .all("subscription")
        .filter(|found| found["customer"] == customer && ONGOING.contains(&text(found, "status")));
    let subscriptions: String = theirs.map(|found| subscription_form(found, &plans)).collect();
    let back = match text(session, "return_url") {
        "" => String::new(),
        url => format!("<p><a href=\"{}\">Back</a>", escape(url)),
    };
    let html = format!(
        "<!doctype html><title>Billing portal (simulator)</title><h1>Billing portal of \
         {customer}</h1>{subscriptions}\
         <form method=\"post\"><p>Card that <select name=\"card\"><option \
         value=\"works\">works<option value=\"declines\">declines\
         <option value=\"needs_action\">needs action<option value=\"debit\">is a bank \
         account</select> <button name=\"action\" \
         value=\"card\">Update card</button></form>{back}",
        customer = escape(customer),
    );
    Html(html).into_response()
}

fn plan_option(price: &Value) -> String {
    let id = escape(text(price, "id"));
    format!(
        "<option value=\"{id}\">{}",
        price["nickname"].as_str().map_or_else(|| id.clone(), escape)
    )
}

fn subscription_form(subscription: &Value, plans: &str) -> String {
    let (action, label) = if subscription["cancel_at"].is_null() {
        ("cancel", "Cancel at period end")
    } else {
        ("resume", "Don't cancel")
    };
    let change = format!(
        "<select name=\"price\">{plans}</select> <button name=\"action\" value=\"plan\">Change \
         plan</button> "
    );
    let change = if can_change_plan(subscription) { change.as_str() } else { "" };
    format!(
        "<form method=\"post\"><p>{id} ({status}) <input type=\"hidden\" name=\"subscription\" \
         value=\"{id}\">\
         {change}<button name=\"action\" value=\"{action}\">{label}</button></form>",
        id = escape(text(subscription, "id")),
        status = text(subscription, "status"),
    )
}

/// Returns whether the portal can change the plan: a subscription with several items excludes that.
fn can_change_plan(subscription: &Value) -> bool {
    subscription["items"]["data"].as_array().is_some_and(|items| items.len() == 1)
}

async fn portal(State(core): State<Arc<Core>>, Path(id): Path<String>, body: Bytes) -> Response {
    let form = pairs(str::from_utf8(&body).unwrap_or_default());
    let field = |name: &str| {
        form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    };
    let mut store = lock(&core.state);
    let customer = store
        .find("billing_portal.session", &id)
        .map(|session| text(session, "customer").to_owned())
        .unwrap_or_default();
    let subscription = field("subscription");
    let found = store
        .find("subscription", subscription)
        .filter(|found| text(found, "customer") == customer);
    let (theirs, changes) = (found.is_some(), found.is_some_and(can_change_plan));
    let done = match (field("action"), field("card")) {
        ("plan", _) if changes => store.change_plan(subscription, field("price")).map(drop),
        ("cancel", _) if theirs => store.cancel_in_portal(subscription, true).map(drop),
        ("resume", _) if theirs => store.cancel_in_portal(subscription, false).map(drop),
        ("card", card @ ("works" | "declines" | "needs_action" | "debit"))
            if !customer.is_empty() =>
        {
            let card = match card {
                "works" => Card::Works,
                "declines" => Card::Declines,
                "debit" => Card::Debit { days: 4, succeeds: true },
                _ => Card::NeedsAction,
            };
            store.cards.insert(customer, card);
            Ok(())
        }
        _ => Err(ApiError::invalid("The portal does not offer this action here.")),
    };
    done.map_or_else(IntoResponse::into_response, |()| {
        Redirect::to(&format!("/pay/portal/{id}")).into_response()
    })
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
