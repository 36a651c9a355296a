mod bounds;
mod checkout;
mod delivery;
mod lifecycle;
mod operations;
mod schema;
mod subscriptions;

use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::StatusCode;
use serde_json::Value;
use serde_json::json;

use super::*;

const KEY: &str = "sk_test_simulator";

async fn simulator() -> Simulator {
    let options = Options {
        listen: "127.0.0.1:0".parse().expect("an address"),
        secret_key: KEY.to_owned(),
        webhook_secret: "whsec_test".to_owned(),
        webhook_url: None,
    };
    let simulator = Simulator::start(options).await.expect("a simulator");
    for (id, unit_amount, interval, nickname) in [
        ("price_pro", 4_900, Interval::Month, "Pro <monthly>"),
        ("price_team", 9_900, Interval::Month, "Team"),
        ("price_slot", 500, Interval::Month, "Slot"),
        ("price_pro_year", 49_000, Interval::Year, "Pro, yearly"),
        ("price_pro_eur", 4_500, Interval::Month, "Pro in euros"),
    ] {
        let currency = if id.ends_with("_eur") { "eur" } else { "usd" };
        simulator.add_price(Price {
            id: id.to_owned(),
            product: id.replacen("price", "prod", 1),
            currency: currency.to_owned(),
            unit_amount,
            interval,
            nickname: nickname.to_owned(),
        });
    }
    simulator
}

fn payer() -> Payer {
    let address = Address {
        line1: Some("1 Main St".to_owned()),
        country: Some("US".to_owned()),
        ..Address::default()
    };
    Payer {
        email: "ada@example.com".to_owned(),
        name: Some("Ada".to_owned()),
        phone: None,
        address: Some(address),
    }
}

fn types(simulator: &Simulator) -> Vec<String> {
    simulator.events().iter().map(|event| objects::text(event, "type").to_owned()).collect()
}

/// Reads a value as the generated type, as clients do.
fn typed<T: miniserde::Deserialize>(value: &Value) -> T {
    miniserde::json::from_str(&value.to_string())
        .unwrap_or_else(|_| panic!("the generated type does not read {value}"))
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

fn second(text: &str) -> i64 {
    at(text).as_second()
}

fn field(simulator: &Simulator, id: &str, pointer: &str) -> Value {
    simulator.object(id).and_then(|object| object.pointer(pointer).cloned()).unwrap_or_default()
}

fn status(simulator: &Simulator, id: &str) -> String {
    field(simulator, id, "/status").as_str().unwrap_or_default().to_owned()
}

/// Returns the id of a subscription's latest invoice.
fn latest(simulator: &Simulator, subscription: &str) -> String {
    field(simulator, subscription, "/latest_invoice").as_str().unwrap_or_default().to_owned()
}

/// Returns the types of the events that `act` emits.
fn emits(simulator: &Simulator, act: impl FnOnce()) -> Vec<String> {
    let before = simulator.events().len();
    act();
    types(simulator).split_off(before)
}

/// Pays for a subscription to Pro at an instant. Returns the ids of the customer and subscription.
fn subscribed(simulator: &Simulator, since: &str) -> (String, String) {
    simulator.set_now(at(since));
    let id =
        simulator.create_checkout(CheckoutParams::subscription("price_pro")).expect("a session");
    let session = simulator.pay(&id, payer()).expect("paid");
    (
        objects::text(&session, "customer").to_owned(),
        objects::text(&session, "subscription").to_owned(),
    )
}

async fn get(simulator: &Simulator, path: &str) -> (StatusCode, Value) {
    let url = format!("{}v1/{path}", simulator.base_url());
    let answer = reqwest::Client::new().get(url).bearer_auth(KEY).send().await.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

async fn post(
    simulator: &Simulator,
    path: &str,
    key: &str,
    form: &[(&str, &str)],
) -> (StatusCode, Value) {
    let url = format!("{}v1/{path}", simulator.base_url());
    let request = reqwest::Client::new()
        .post(url)
        .basic_auth(KEY, Some(""))
        .header("Idempotency-Key", key)
        .form(form);
    let answer = request.send().await.expect("an answer");
    assert!(answer.headers().contains_key("Request-Id"));
    (answer.status(), answer.json().await.expect("JSON"))
}

#[tokio::test]
async fn a_paid_checkout_leaves_objects_that_the_generated_types_read() {
    let simulator = simulator().await;
    let mut params = CheckoutParams::subscription("price_pro");
    params.quantity = 3;
    params.subscription_metadata.insert("plan_id".to_owned(), "pro".to_owned());
    simulator.set_now("2027-01-31T10:00:00Z".parse().expect("a timestamp"));
    let id = simulator.create_checkout(params).expect("a session");
    let session = simulator.pay(&id, payer()).expect("paid");
    assert_eq!(
        types(&simulator),
        ["customer.subscription.created", "checkout.session.completed", "invoice.paid"]
    );
    assert_eq!(
        (&session["payment_status"], &session["amount_total"]),
        (&json!("paid"), &json!(14_700))
    );

    let read = async |path: String| get(&simulator, &path).await.1.to_string();
    let session_text = read(format!("checkout/sessions/{id}?expand[]=line_items")).await;
    let typed: stripe_shared::CheckoutSession =
        miniserde::json::from_str(&session_text).expect("a session");
    assert_eq!(typed.line_items.expect("expanded").data.len(), 1);
    let subscription_text =
        read(format!("subscriptions/{}", objects::text(&session, "subscription"))).await;
    let typed: stripe_shared::Subscription =
        miniserde::json::from_str(&subscription_text).expect("a subscription");
    assert_eq!(typed.metadata["plan_id"], "pro");
    assert_eq!(typed.items.data[0].current_period_end, 1_803_808_800);
    let invoice_text = read(format!("invoices/{}", objects::text(&session, "invoice"))).await;
    let typed: stripe_shared::Invoice =
        miniserde::json::from_str(&invoice_text).expect("an invoice");
    assert_eq!((typed.amount_paid, typed.amount_remaining), (14_700, 0));
    let customer_text = read(format!("customers/{}", objects::text(&session, "customer"))).await;
    let typed: stripe_shared::Customer =
        miniserde::json::from_str(&customer_text).expect("a customer");
    assert_eq!(typed.email.as_deref(), Some("ada@example.com"));

    let event = simulator.events().remove(1);
    assert_eq!(get(&simulator, &format!("events/{}", objects::text(&event, "id"))).await.1, event);
    let (_, newest) = get(&simulator, "events?limit=2&created[gte]=1").await;
    assert_eq!((&newest["data"][1], &newest["has_more"]), (&event, &json!(true)));
    assert!(simulator.pay(&id, payer()).is_err());
}

#[tokio::test]
async fn a_bank_debit_confirms_or_fails_later() {
    let simulator = simulator().await;
    let session = |fate: &str| {
        let id = simulator
            .create_checkout(CheckoutParams::subscription("price_pro"))
            .expect("a session");
        let session = simulator.pay_async(&id, payer()).expect("paid later");
        assert_eq!(session["payment_status"], "unpaid");
        let before = simulator.events().len();
        let settled =
            if fate == "settle" { simulator.settle(&id) } else { simulator.fail_async(&id) };
        let settled = settled.expect("decided");
        let status = simulator
            .object(objects::text(&settled, "subscription"))
            .expect("a subscription")["status"]
            .clone();
        (settled["payment_status"].clone(), status, types(&simulator).split_off(before))
    };
    let (payment, status, events) = session("settle");
    assert_eq!((payment, status), (json!("paid"), json!("active")));
    assert_eq!(events, ["checkout.session.async_payment_succeeded", "invoice.paid"]);
    let (payment, status, events) = session("fail");
    assert_eq!((payment, status), (json!("unpaid"), json!("past_due")));
    let expected = [
        "checkout.session.async_payment_failed",
        "invoice.payment_failed",
        "customer.subscription.updated",
    ];
    assert_eq!(events, expected);
}

#[tokio::test]
async fn a_cancelled_subscription_has_ended_and_cannot_be_cancelled_again() {
    let simulator = simulator().await;
    let id =
        simulator.create_checkout(CheckoutParams::subscription("price_pro")).expect("a session");
    let session = simulator.pay(&id, payer()).expect("paid");
    let path = format!("subscriptions/{}", objects::text(&session, "subscription"));
    simulator.set_now("2027-01-31T10:00:00Z".parse().expect("a timestamp"));
    let delete = async |path: &str| {
        let url = format!("{}v1/{path}", simulator.base_url());
        let answer =
            reqwest::Client::new().delete(url).bearer_auth(KEY).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    assert_eq!(
        delete(&format!("{path}?prorate=true")).await.1["error"]["param"],
        "prorate",
        "not simulated"
    );
    let (status, canceled) = delete(&path).await;
    assert_eq!(status, 200);
    let typed: stripe_shared::Subscription =
        miniserde::json::from_str(&canceled.to_string()).expect("a subscription");
    assert_eq!(
        (typed.status.as_str(), typed.canceled_at, typed.ended_at),
        ("canceled", Some(1_801_389_600), Some(1_801_389_600))
    );
    assert_eq!(get(&simulator, &path).await.1, canceled, "it can still be read");
    let event = simulator.events().pop().expect("an event");
    assert_eq!(
        (&event["type"], &event["data"]["object"]),
        (&json!("customer.subscription.deleted"), &canceled)
    );
    for path in [path.as_str(), "subscriptions/sub_none"] {
        let (status, refused) = delete(path).await;
        let id = path.trim_start_matches("subscriptions/");
        let error = json!({"type": "invalid_request_error", "code": "resource_missing",
            "param": "id", "message": format!("No such subscription: '{id}'")});
        assert_eq!((status, &refused["error"]), (404, &error));
    }
    assert_eq!(
        types(&simulator).iter().filter(|kind| *kind == "customer.subscription.deleted").count(),
        1
    );
}

#[tokio::test]
async fn an_idempotency_key_answers_again_and_refuses_another_body() {
    let simulator = simulator().await;
    let form = [("email", "ada@example.com"), ("metadata[tenant_id]", "t1")];
    simulator.lose_answer_on("/customers", 500);
    assert_eq!(post(&simulator, "customers", "k1", &form).await.0, 500);
    let (_, first) = post(&simulator, "customers", "k1", &form).await;
    assert_eq!(first["metadata"]["tenant_id"], "t1");
    assert_eq!(post(&simulator, "customers", "k1", &form).await.1, first);
    assert_eq!(get(&simulator, "customers?email=ada@example.com").await.1["data"], json!([first]));
    let (status, refused) =
        post(&simulator, "customers", "k1", &[("email", "eve@example.com")]).await;
    assert_eq!((status.as_u16(), &refused["error"]["type"]), (400, &json!("idempotency_error")));
}

#[tokio::test]
async fn an_idempotency_key_compares_parameters_and_not_their_order() {
    let simulator = simulator().await;
    let (_, first) =
        post(&simulator, "customers", "k1", &[("name", "Ada"), ("email", "ada@example.com")]).await;
    assert_eq!(
        post(&simulator, "customers", "k1", &[("email", "ada@example.com"), ("name", "Ada")]).await,
        (StatusCode::OK, first)
    );
}

#[tokio::test]
async fn a_failure_is_kept_for_its_key_and_for_no_other() {
    let simulator = simulator().await;
    let form = [("email", "ada@example.com")];
    simulator.fail_for_key_on("/customers");
    for _ in 0..2 {
        let (status, failed) = post(&simulator, "customers", "k1", &form).await;
        assert_eq!((status.as_u16(), &failed["error"]["type"]), (500, &json!("api_error")));
    }
    assert_eq!(post(&simulator, "customers", "k2", &form).await.0, 200);
}

#[tokio::test]
async fn the_portal_opens_for_a_customer_and_leads_back() {
    let simulator = simulator().await;
    simulator.save_portal_settings();
    let (_, customer) = post(&simulator, "customers", "c", &[("email", "ada@example.com")]).await;
    let id = objects::text(&customer, "id");
    let (status, session) = post(
        &simulator,
        "billing_portal/sessions",
        "p",
        &[("customer", id), ("return_url", "https://app.example/billing")],
    )
    .await;
    assert_eq!(
        (status, &session["object"], &session["customer"]),
        (StatusCode::OK, &json!("billing_portal.session"), &customer["id"])
    );
    let page = reqwest::get(objects::text(&session, "url"))
        .await
        .expect("a page")
        .text()
        .await
        .expect("text");
    assert!(page.contains("href=\"https://app.example/billing\""), "{page}");
    let (status, refused) =
        post(&simulator, "billing_portal/sessions", "q", &[("customer", "cus_none")]).await;
    let error = json!({"type": "invalid_request_error", "code": "resource_missing",
        "param": "customer", "message": "No such customer: 'cus_none'"});
    assert_eq!((status.as_u16(), &refused["error"]), (400, &error));
    assert_eq!(
        post(&simulator, "billing_portal/sessions", "r", &[]).await.1["error"]["code"],
        "parameter_missing"
    );
    assert_eq!(
        get(&simulator, &format!("billing_portal/sessions/{}", objects::text(&session, "id")))
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn errors_have_stripes_shape() {
    let simulator = simulator().await;
    let (status, body) = get(&simulator, "subscriptions/sub_none").await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (404, &json!("resource_missing")));
    let (status, body) = post(&simulator, "customers", "k", &[("nonsense", "1")]).await;
    assert_eq!((status.as_u16(), &body["error"]["param"]), (400, &json!("nonsense")));
    let (status, body) =
        post(&simulator, "checkout/sessions", "k", &[("mode", "subscription")]).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (400, &json!("parameter_missing")));
    let answer =
        reqwest::get(format!("{}v1/customers", simulator.base_url())).await.expect("an answer");
    assert_eq!(answer.status(), 401);
    simulator.fail_next_on("/events", 1, 429);
    assert_eq!(get(&simulator, "customers").await.0, 200);
    let (status, body) = get(&simulator, "events").await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (429, &json!("rate_limit")));
    simulator.stop().await;
    assert!(reqwest::get(simulator.base_url()).await.is_err());
    simulator.restart().await.expect("the same port");
    assert_eq!(get(&simulator, "prices/price_pro").await.0, 200);
}

#[tokio::test]
async fn the_page_pays_over_http_and_declines_leave_the_session_open() {
    let simulator = simulator().await;
    let form = [
        ("mode", "subscription"),
        ("success_url", "http://127.0.0.1:1/done?s={CHECKOUT_SESSION_ID}"),
        ("line_items[0][price]", "price_pro"),
        ("line_items[0][quantity]", "1"),
        ("metadata[company_name]", "Müller & Söhne"),
    ];
    let (_, session) = post(&simulator, "checkout/sessions", "k", &form).await;
    let url = objects::text(&session, "url");
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    let page = client.get(url).send().await.expect("a page").text().await.expect("text");
    assert!(
        page.contains("Müller &amp; Söhne")
            && page.contains("$49.00")
            && page.contains("Pro &lt;monthly&gt;")
    );
    let choose = async |outcome: &str| {
        let form = [("outcome", outcome), ("email", "ada@example.com"), ("country", "DE")];
        client.post(url).form(&form).send().await.expect("an answer")
    };
    assert_eq!(choose("declined").await.status(), 402);
    assert!(simulator.events().is_empty());
    let paid = choose("paid").await;
    assert_eq!(paid.status(), 303);
    let location = paid.headers()["location"].to_str().expect("text");
    assert!(location.ends_with(objects::text(&session, "id")));
    let completed = simulator.object(objects::text(&session, "id")).expect("a session");
    assert_eq!(completed["customer_details"]["address"]["country"], "DE");
}

#[tokio::test]
async fn events_are_delivered_in_order_signed_and_again_after_a_failure() {
    type Received = Arc<Mutex<Vec<(String, bool)>>>;
    async fn receive(
        State(received): State<Received>,
        headers: HeaderMap,
        body: String,
    ) -> StatusCode {
        let signed =
            headers["Stripe-Signature"].to_str().is_ok_and(|value| value.starts_with("t="));
        let event: Value = serde_json::from_str(&body).expect("JSON");
        let mut received = lock(&received);
        received.push((objects::text(&event, "type").to_owned(), signed));
        if received.len() == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
    }
    let received = Received::default();
    let app = axum::Router::new().fallback(receive).with_state(Arc::clone(&received));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/webhook", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });

    let simulator = simulator().await;
    simulator.set_webhook_url(Some(url));
    let id =
        simulator.create_checkout(CheckoutParams::subscription("price_pro")).expect("a session");
    simulator.pay(&id, payer()).expect("paid");
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        if simulator.deliveries().iter().all(|delivery| delivery.last_status == Some(200)) {
            break;
        }
    }
    let attempts: Vec<u32> =
        simulator.deliveries().iter().map(|delivery| delivery.attempts).collect();
    assert_eq!(attempts, [2, 1, 1]);
    let mut expected = types(&simulator);
    expected.push(expected[0].clone());
    let received = lock(&received);
    assert!(received.iter().all(|(_, signed)| *signed));
    assert_eq!(received.iter().map(|(kind, _)| kind.clone()).collect::<Vec<_>>(), expected);
}
