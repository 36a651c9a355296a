//! The pages people see: payment, and the billing portal.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde_json::Value;

use super::objects::text;
use super::state::{ApiError, Payment, Result, State as Store};
use super::{Address, Core, Payer};
use crate::server::{escape, lock, pairs};

pub(super) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/pay/{session}", get(pay_page).post(pay))
        .route("/pay/portal/{session}", get(portal_page))
        .route("/pay/{session}/settle", post(settle))
        .route("/pay/{session}/fail", post(fail))
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
    let debited = session["payment_method_types"].as_array().is_some_and(|methods| methods.iter().any(|method| method == "us_bank_account"));
    let debit = if debited { "<button name=\"outcome\" value=\"async\">Pay later (bank debit)</button> " } else { "" };
    let html = format!(
        "<!doctype html><title>Checkout (simulator)</title><h1>Checkout for {company}</h1><p>{message}\
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
