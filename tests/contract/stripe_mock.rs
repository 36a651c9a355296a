//! Each request of ours against Stripe's published schema, as stripe-mock holds it. Skipped by name
//! where there is no Go.
//!
//! It knows parameters and their types, and no state: what an answer means is the simulator's part.
//! Its schema is that of the newest release of stripe-mock, which may be older than the API version
//! that we send; what is too new for it stands in `NEWER`.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use lambda_http::http::request::Parts;
use lambda_http::http::{Method, StatusCode, header};
use shared::base::ids::{
    AddonOrderId, Currency, PlanId, StripeChargeId, StripeCustomerId, StripeEventId, StripePriceId,
    StripeSessionId, StripeSubscriptionId, SubscriptionId, TenantId,
};
use shared::outside::secrets::{Role, Secrets};
use shared::outside::stripe::{
    AddressChange, CustomerChange, EventQuery, NewCustomer, NewPayment, NewSession, Stripe,
};
use shared::process::config::Env;
use tests::stack;

/// The one parameter of ours that the mock's schema does not know yet, and where it goes: of
/// 2026-09-30, and the schema of 2026-08-26. Its request is refused with it, which is asserted, and
/// then checked without it.
const NEWER: (&str, &str) = ("/v1/checkout/sessions", "allowed_payment_method_types");

/// How the mock refuses what the schema does not name.
const UNKNOWN: &str = "additional properties are not allowed";

/// A request as it was answered.
#[derive(Debug)]
struct Exchange {
    request: String,
    status: StatusCode,
    answer: String,
}

/// What stands between our client and the mock, and notes what is said.
struct Front {
    upstream: String,
    http: reqwest::Client,
    noted: Mutex<Vec<Exchange>>,
    /// Refusals of a whole request with `NEWER`.
    newer: Mutex<Vec<Exchange>>,
}

impl Front {
    async fn ask(&self, parts: &Parts, body: Bytes) -> (Exchange, Response) {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let request = format!("{} {path} {}", parts.method, String::from_utf8_lossy(&body));
        let mut headers = parts.headers.clone();
        headers.remove(header::HOST);
        headers.remove(header::CONTENT_LENGTH);
        let answer = self
            .http
            .request(parts.method.clone(), format!("{}{path}", self.upstream))
            .headers(headers)
            .body(body)
            .send()
            .await;
        let answer = answer.expect("an answer of the mock");
        let status = answer.status();
        let body = answer.bytes().await.expect("all of it");
        (
            Exchange { request, status, answer: String::from_utf8_lossy(&body).into_owned() },
            (status, Body::from(body)).into_response(),
        )
    }
}

async fn forward(State(front): State<Arc<Front>>, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    let (whole, answer) = front.ask(&parts, body.clone()).await;
    let form = String::from_utf8_lossy(&body);
    let (newer, others): (Vec<_>, Vec<_>) =
        form.split('&').partition(|field| field.starts_with(NEWER.1));
    if parts.uri.path() != NEWER.0 || newer.is_empty() || whole.status.is_success() {
        front.noted.lock().expect("unpoisoned").push(whole);
        return answer;
    }
    front.newer.lock().expect("unpoisoned").push(whole);
    let (without, answer) = front.ask(&parts, others.join("&").into()).await;
    front.noted.lock().expect("unpoisoned").push(without);
    answer
}

struct Mock {
    stripe: Stripe,
    base: String,
    front: Arc<Front>,
    /// The methods whose requests were taken.
    taken: BTreeSet<&'static str>,
}

impl Mock {
    async fn new() -> Self {
        shared::process::tls::install();
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let front = Arc::new(Front {
            upstream: stack("STRIPE_MOCK_URL"),
            http,
            noted: Mutex::default(),
            newer: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("its address"));
        let app = Router::new().fallback(forward).with_state(Arc::clone(&front));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let env = Env::of([("SECRETS_PREFIX".to_owned(), stack("SECRETS_PREFIX"))].into());
        let secrets = Secrets::read(&tests::aws(), &env, Role::System).await.expect("the secret");
        Self {
            stripe: Stripe::new(base.clone(), secrets).expect("a client"),
            base,
            front,
            taken: BTreeSet::new(),
        }
    }

    fn noted(&self) -> Vec<Exchange> {
        std::mem::take(&mut *self.front.noted.lock().expect("unpoisoned"))
    }

    /// Asserts that the method asked, and that nothing it asked was refused.
    fn assert_taken(&mut self, method: &'static str) {
        let noted = self.noted();
        assert!(!noted.is_empty(), "{method} asked nothing");
        for Exchange { request, status, answer } in noted {
            assert!(status.is_success(), "{method}: {request} was answered {status}: {answer}");
        }
        self.taken.insert(method);
    }
}

/// Calls a method of the client: its request must be taken, and its answer is the value.
macro_rules! taken {
    ($mock:ident.$method:ident($($argument:expr),* $(,)?)) => {{
        let answer = $mock.stripe.$method($($argument),*).await;
        $mock.assert_taken(stringify!($method));
        answer
    }};
}

/// The async functions of the client's sources that code outside its folder may call.
fn methods() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/src/outside/stripe");
    let texts = std::fs::read_dir(folder)
        .expect("the client's folder")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| std::fs::read_to_string(path).expect("a source file"));
    let name = |line: &str| {
        let (visible, rest) = line.trim_start().split_once("async fn ")?;
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
        matches!(visible, "pub " | "pub(crate) ").then(|| rest[..end].to_owned())
    };
    let all = texts.flat_map(|text| text.lines().filter_map(name).collect::<Vec<_>>());
    // It reads our key, and calls nothing.
    all.filter(|name| name != "livemode").collect()
}

fn id<T>(parsed: shared::Result<T>) -> T {
    parsed.expect("well formed")
}

#[tokio::test]
async fn real_stripe_mock_takes_every_call_and_one_only_without_a_parameter_newer_than_its_schema()
{
    let mut mock = Mock::new().await;
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("an instant");
    let tenant = id(TenantId::parse("acme"));
    let (customer, subscription, session) = (
        id(StripeCustomerId::parse("cus_1")),
        id(StripeSubscriptionId::parse("sub_1")),
        id(StripeSessionId::parse("cs_test_1")),
    );
    let (success_url, cancel_url) = ("https://example.com/paid", "https://example.com/left");

    for email in [None, Some("billing@acme.example")] {
        taken!(
            mock.create_customer(
                &NewCustomer { tenant: &tenant, name: "Acme & Söhne", email },
                "key"
            )
        )
        .expect("read");
    }
    let address = AddressChange {
        line1: "Weg 1",
        line2: "",
        city: "Kiel",
        state: "",
        postal_code: "",
        country: "DE",
    };
    let change = CustomerChange {
        name: Some("Acme & Söhne"),
        email: Some("billing@acme.example"),
        phone: Some(""),
        address: Some(address),
    };
    taken!(mock.update_customer(&customer, &change, "key")).expect("read");
    let new = NewSession {
        tenant: &tenant,
        customer: &customer,
        plan: &id(PlanId::parse("pro")),
        price: &id(StripePriceId::parse("price_1")),
        additional: true,
        success_url,
        cancel_url,
    };
    taken!(mock.create_checkout_session(&new, "key")).expect("read");
    let payment = NewPayment {
        tenant: &tenant,
        customer: &customer,
        parent: &id(SubscriptionId::parse("SUB-2026-0001")),
        order: &id(AddonOrderId::parse("ord_0123456789abcdef0123456789abcdef")),
        lines: &[("Standard".to_owned(), 12_345), ("Premium".to_owned(), 67)],
        currency: &id(Currency::parse("eur")),
        expires_at: now + SignedDuration::from_mins(35),
        success_url,
        cancel_url,
    };
    taken!(mock.create_payment_session(&payment, "key")).expect("read");
    taken!(mock.create_portal_session(&customer, success_url, "key")).expect("read");

    taken!(mock.checkout_session(&session)).expect("read");
    taken!(mock.find_checkout_session(&session)).expect("read").expect("found");
    let mut found = taken!(mock.subscription(&subscription)).expect("read");
    taken!(mock.read_more_items(&mut found)).expect("read");
    taken!(mock.find_subscription(&subscription)).expect("read").expect("found");
    for after in [None, Some(&subscription)] {
        taken!(mock.subscriptions(after)).expect("read");
    }
    taken!(mock.invoices(&subscription)).expect("read");
    taken!(mock.customer(&customer)).expect("read");
    taken!(mock.customer_of_charge(&id(StripeChargeId::parse("ch_1")))).expect("read");
    for after in [None, Some(&id(StripeEventId::parse("evt_1")))] {
        let types = &["checkout.session.completed", "invoice.paid"];
        let query =
            EventQuery { from: now - SignedDuration::from_hours(24), to: now, types, after };
        taken!(mock.events(&query)).expect("read");
    }

    taken!(mock.add_item(&subscription, &id(StripePriceId::parse("price_1")), 3, "key"))
        .expect("taken");
    taken!(mock.set_item_quantity("si_1", 4, "key")).expect("taken");
    taken!(mock.remove_item("si_1")).expect("taken");
    taken!(mock.cancel_subscription(&subscription)).expect("taken");

    let missing: Vec<_> =
        methods().into_iter().filter(|method| !mock.taken.contains(method.as_str())).collect();
    assert!(missing.is_empty(), "no call of these is held against the schema: {missing:?}");

    let newer = std::mem::take(&mut *mock.front.newer.lock().expect("unpoisoned"));
    assert_eq!(newer.len(), 1, "stripe-mock knows {} by now: empty NEWER. {newer:?}", NEWER.1);
    assert!(
        newer[0].status == StatusCode::BAD_REQUEST && newer[0].answer.contains(UNKNOWN),
        "{newer:?}"
    );
    // Past the capture of what a test prints: whoever reads that it passed reads this too.
    let written = writeln!(
        std::io::stderr(),
        "stripe-mock: POST {} was checked without {}, which is newer than its schema",
        NEWER.0,
        NEWER.1
    );
    written.expect("written");
}

#[tokio::test]
async fn real_stripe_mock_refuses_what_the_schema_does_not_have() {
    let mock = Mock::new().await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ask = async |method: Method, path: &str, form: &str| {
        let call = http.request(method, format!("{}{path}", mock.base)).bearer_auth("sk_test_1");
        let call = call
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.to_owned());
        call.send().await.expect("an answer");
        let noted = mock.noted().pop().expect("noted");
        (noted.status.as_u16(), noted.answer.contains(UNKNOWN))
    };
    assert_eq!(ask(Method::POST, "/v1/customers", "name=Acme").await, (200, false));
    assert_eq!(
        ask(Method::POST, "/v1/customers", "name=Acme&colour=blue").await,
        (400, true),
        "a parameter of a form"
    );
    assert_eq!(
        ask(Method::GET, "/v1/events?colour=blue", "").await,
        (400, true),
        "a parameter of a query"
    );
    assert_eq!(
        ask(Method::POST, NEWER.0, &format!("mode=payment&{}[0]=card&colour=blue", NEWER.1)).await,
        (400, true),
        "one next to what is too new"
    );
    assert_eq!(
        ask(Method::POST, "/v1/subscription_items", "price=price_1").await,
        (400, false),
        "without what is required"
    );
    assert_eq!(
        ask(Method::POST, "/v1/subscription_items/si_1", "quantity=many").await,
        (400, false),
        "no number"
    );
    assert_eq!(
        ask(Method::POST, "/v1/subscription_items/si_1", "proration_behavior=sometimes").await,
        (400, false),
        "no value of the enum"
    );
    assert_eq!(ask(Method::POST, "/v1/colours", "").await, (404, false), "a path");
}
