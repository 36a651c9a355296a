//! Every kind of answer against Stripe's published specification, which stripe-mock carries.

use std::collections::BTreeSet;

use super::*;

/// What the specification leaves out, although Stripe answers it and the generated types need it.
const LEFT_OUT: [&str; 1] = ["subscription_item.plan: unknown"];

/// An answer of the API, or a stored object of which no answer is made.
struct Answer {
    method: Method,
    path: String,
    status: u16,
    body: Value,
}

/// A client that keeps every answer.
struct Tour {
    simulator: Simulator,
    http: reqwest::Client,
    answers: Vec<Answer>,
}

impl Tour {
    async fn ask(&mut self, method: Method, path: &str, form: &[(&str, &str)]) -> Value {
        let url = format!("{}v1/{path}", self.simulator.base_url());
        let key = self.answers.len().to_string();
        let call = self.http.request(method.clone(), url).bearer_auth(KEY);
        let call = call.header("Idempotency-Key", key);
        let call = if form.is_empty() { call } else { call.form(form) };
        let answer = call.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.expect("JSON");
        let path = path.split('?').next().unwrap_or_default().to_owned();
        self.answers.push(Answer { method, path, status, body: body.clone() });
        body
    }

    async fn get(&mut self, path: &str) -> Value {
        self.ask(Method::GET, path, &[]).await
    }

    async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Value {
        self.ask(Method::POST, path, form).await
    }

    /// Makes an object and reads it again, alone and in its list. Returns its id.
    async fn make(&mut self, path: &str, form: &[(&str, &str)]) -> String {
        let id = id(&self.post(path, form).await);
        self.get(&format!("{path}/{id}")).await;
        self.get(path).await;
        id
    }
}

fn id(object: &Value) -> String {
    let id = objects::text(object, "id").to_owned();
    assert!(!id.is_empty(), "{object}");
    id
}

const SUCCESS: (&str, &str) = ("success_url", "https://example.com/done");
const UNPRORATED: (&str, &str) = ("proration_behavior", "none");

/// Asks for every kind of answer, in every state that a purchase comes through.
async fn tour() -> Tour {
    let simulator = simulator().await;
    simulator.set_now(at("2027-01-31T10:00:00Z"));
    let mut tour = Tour { simulator, http: reqwest::Client::new(), answers: Vec::new() };
    let customer = customers_and_prices(&mut tour).await;
    let subscription = checkouts(&mut tour, &customer).await;
    subscriptions(&mut tour, &customer, &subscription).await;
    money(&mut tour, &customer).await;
    portal(&mut tour, &customer).await;
    endings(&mut tour, &customer, &subscription).await;
    for _ in 0..2 {
        let events = tour.get("events?limit=100").await;
        tour.get(&format!("events/{}", id(&events["data"][0]))).await;
        tour.get("events?type=invoice.*&limit=3").await;
        tour.simulator.advance_to(at("2027-12-31T00:00:00Z"));
    }
    tour
}

async fn customers_and_prices(tour: &mut Tour) -> String {
    let customer = tour
        .make(
            "customers",
            &[
                ("email", "ada@example.com"),
                ("name", "Ada"),
                ("phone", "+1 555 0100"),
                ("description", "first"),
                ("address[line1]", "1 Main St"),
                ("address[country]", "US"),
                ("metadata[tenant_id]", "acme"),
            ],
        )
        .await;
    tour.post(&format!("customers/{customer}"), &[("phone", ""), ("metadata", "")]).await;
    let price = [
        ("currency", "usd"),
        ("product", "prod_1"),
        ("unit_amount", "700"),
        ("recurring[interval]", "month"),
        ("nickname", "Seven"),
    ];
    tour.make("prices", &price).await;
    tour.make("prices", &price[..3]).await;
    for (path, form) in [
        ("customers/cus_none", &[("name", "Eve")][..]),
        ("customers", &[("colour", "blue")]),
        ("prices", &[("currency", "usd")]),
    ] {
        tour.post(path, form).await;
    }
    tour.get("customers/cus_none").await;
    tour.get("customers?limit=0").await;
    tour.get("colours").await;
    customer
}

async fn checkouts(tour: &mut Tour, customer: &str) -> String {
    let subscribe = [
        ("mode", "subscription"),
        SUCCESS,
        ("customer", customer),
        ("line_items[0][price]", "price_pro"),
        ("line_items[0][quantity]", "1"),
    ];
    let session = tour.make("checkout/sessions", &subscribe).await;
    let expired = tour.make("checkout/sessions", &subscribe).await;
    tour.post(&format!("checkout/sessions/{expired}/expire"), &[]).await;
    tour.simulator.pay(&session, payer()).expect("paid");
    tour.get(&format!(
        "checkout/sessions/{session}?expand[]=line_items&expand[]=customer&expand[]=subscription\
         &expand[]=invoice"
    ))
    .await;
    tour.get(&format!("checkout/sessions/{session}/line_items")).await;
    let pay = [
        ("mode", "payment"),
        SUCCESS,
        ("cancel_url", "https://example.com/left"),
        ("client_reference_id", "order 1"),
        ("customer_creation", "always"),
        ("invoice_creation[enabled]", "true"),
        ("line_items[0][price_data][currency]", "usd"),
        ("line_items[0][price_data][unit_amount]", "1200"),
        ("line_items[0][price_data][product_data][name]", "Slots"),
        ("line_items[0][quantity]", "1"),
        ("payment_intent_data[description]", "Slots"),
    ];
    for form in [&pay[..], &pay[..10]] {
        let session = tour.make("checkout/sessions", form).await;
        tour.simulator.pay(&session, payer()).expect("paid");
        tour.get(&format!("checkout/sessions/{session}")).await;
    }
    for settles in [true, false] {
        let session = tour.make("checkout/sessions", &subscribe).await;
        tour.simulator.pay_async(&session, payer()).expect("paid later");
        let settled = if settles {
            tour.simulator.settle(&session)
        } else {
            tour.simulator.fail_async(&session)
        };
        settled.expect("decided");
    }
    let paid = tour.get(&format!("checkout/sessions/{session}")).await;
    objects::text(&paid, "subscription").to_owned()
}

async fn subscriptions(tour: &mut Tour, customer: &str, subscription: &str) {
    let path = format!("subscriptions/{subscription}");
    let add = [("subscription", subscription), ("price", "price_slot"), UNPRORATED];
    let item = id(&tour.post("subscription_items", &add).await);
    let item = format!("subscription_items/{item}");
    tour.post(&item, &[("quantity", "4"), UNPRORATED]).await;
    tour.get(&item).await;
    tour.get(&format!("subscription_items?subscription={subscription}")).await;
    for form in [
        &[("metadata[plan_id]", "pro")][..],
        &[("cancel_at_period_end", "true")],
        &[("cancel_at_period_end", "false")],
        &[("pause_collection[behavior]", "void")],
        &[("pause_collection", "")],
        &[("collection_method", "send_invoice"), ("days_until_due", "14")],
        &[("collection_method", "charge_automatically")],
        &[("items[0][price]", "price_none")],
    ] {
        tour.post(&path, form).await;
    }
    let due = [
        ("customer", customer),
        ("amount", "300"),
        ("currency", "usd"),
        ("description", "Setup"),
        ("subscription", subscription),
    ];
    tour.make("invoiceitems", &due).await;
    tour.make("invoiceitems", &due[..4]).await;
    let gone = tour.make("invoiceitems", &due[..3]).await;
    for _ in 0..2 {
        tour.ask(Method::DELETE, &format!("invoiceitems/{gone}"), &[]).await;
        let gone = tour.get(&format!("invoiceitems/{gone}")).await;
        assert_eq!(gone["error"]["code"], "resource_missing", "{gone}");
    }
    tour.simulator.advance_to(at("2027-02-28T10:00:00Z"));
    tour.get(&format!("{path}?expand[]=latest_invoice&expand[]=customer")).await;
    tour.get("subscriptions?status=all&expand[]=data.latest_invoice").await;
    tour.ask(Method::DELETE, &item, &[UNPRORATED]).await;
}

async fn money(tour: &mut Tour, customer: &str) {
    let invoices = tour.get(&format!("invoices?customer={customer}")).await;
    let invoice = id(&invoices["data"][0]);
    tour.get(&format!("invoices/{invoice}")).await;
    tour.get(&format!("invoices/{invoice}/lines?limit=1")).await;
    tour.simulator.set_card(customer, Card::NeedsAction);
    tour.simulator.advance_to(at("2027-03-31T10:00:00Z"));
    tour.simulator.fail_finalization(customer, true);
    tour.simulator.advance_to(at("2027-04-30T10:00:00Z"));
    tour.simulator.fail_finalization(customer, false);
    let (void, written_off) = (tour.get("invoices?status=open").await, "uncollectible");
    tour.simulator.void_invoice(&id(&void["data"][0])).expect("void");
    if void["data"][1].is_object() {
        tour.simulator.mark_uncollectible(&id(&void["data"][1])).expect(written_off);
    }
    tour.get("invoices?limit=100").await;
    let charges = tour.get("charges").await;
    let charge = id(&charges["data"][0]);
    tour.simulator.refund(&charge, Some(100)).expect("refunded");
    let dispute = id(&tour.simulator.dispute(&charge).expect("disputed"));
    tour.simulator.close_dispute(&dispute, false).expect("closed");
    tour.get(&format!("charges/{charge}?expand[]=customer")).await;
    tour.simulator.set_card(customer, Card::Works);
}

async fn portal(tour: &mut Tour, customer: &str) {
    let open = [("customer", customer), ("return_url", "https://example.com/")];
    tour.post("billing_portal/sessions", &open).await;
    let configuration = tour
        .make(
            "billing_portal/configurations",
            &[
                ("features[invoice_history][enabled]", "true"),
                ("features[customer_update][enabled]", "true"),
                ("features[customer_update][allowed_updates][]", "email"),
                ("business_profile[headline]", "Billing"),
                ("metadata[of]", "a test"),
            ],
        )
        .await;
    let with = [open[0], open[1], ("configuration", &*configuration)];
    tour.post("billing_portal/sessions", &with).await;
    tour.simulator.save_portal_settings();
    tour.post("billing_portal/sessions", &open).await;
    tour.get("billing_portal/configurations?is_default=true").await;
}

async fn endings(tour: &mut Tour, customer: &str, subscription: &str) {
    let trial = tour.simulator.create_checkout(CheckoutParams {
        trial_period_days: Some(5),
        ..CheckoutParams::subscription("price_team")
    });
    let trial = tour.simulator.pay(&trial.expect("a session"), payer()).expect("begun");
    tour.get(&format!("subscriptions/{}", objects::text(&trial, "subscription"))).await;
    let incomplete = tour.simulator.subscribe(customer, "price_team").expect("subscribed");
    tour.simulator.pause(&id(&incomplete)).expect("paused");
    tour.simulator.resume(&id(&incomplete)).expect("resumed");
    let path = format!("subscriptions/{subscription}");
    tour.ask(Method::DELETE, &path, &[]).await;
    tour.ask(Method::DELETE, &path, &[]).await;
    tour.get(&path).await;
    tour.simulator.update_customer(customer, &json!({ "name": "Ada & Co" })).expect("changed");
    tour.simulator.delete_customer(customer).expect("deleted");
    tour.get(&format!("customers/{customer}")).await;
    for status in [400, 429, 500, 503] {
        tour.simulator.fail_next(1, status);
        tour.get("customers").await;
    }
}

/// Returns the paths at which a value has `data` that is null.
fn null_data(at: &str, value: &Value, found: &mut Vec<String>) {
    for (key, inner) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{key}");
        if key == "data" && inner.is_null() {
            found.push(at.clone());
        }
        null_data(&at, inner, found);
    }
    for inner in value.as_array().into_iter().flatten() {
        null_data(at, inner, found);
    }
}

#[tokio::test]
async fn no_answer_has_data_that_is_null() {
    let tour = tour().await;
    let mut found = Vec::new();
    for Answer { method, path, body, .. } in &tour.answers {
        null_data(&format!("{method} {path}"), body, &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Stripe's specification, in OpenAPI.
struct Spec(Value);

impl Spec {
    /// Reads what the stack names.
    #[expect(clippy::disallowed_methods, reason = "the stack's settings come by the environment")]
    fn read() -> Self {
        let path = std::env::var("STRIPE_SPEC").expect("STRIPE_SPEC, from the stack's stack.env");
        let text = std::fs::read(path).expect("the specification");
        Self(serde_json::from_slice(&text).expect("JSON"))
    }

    fn schema(&self, name: &str) -> &Value {
        &self.0["components"]["schemas"][name]
    }

    /// Returns the schema of the answer to a request.
    fn answer(&self, answer: &Answer) -> Option<&Value> {
        if answer.status >= 400 {
            return Some(self.schema("error"));
        }
        let path: Vec<_> = answer.path.split('/').collect();
        let fits = |template: &str| {
            let template = template.trim_start_matches("/v1/").split('/');
            let mut parts = template.zip(&path);
            parts.all(|(part, given)| part.starts_with('{') || part == *given)
        };
        let length = |template: &str| template.matches('/').count() == path.len() + 1;
        let paths = self.0["paths"].as_object()?;
        let (_, found) = paths.iter().find(|(template, _)| length(template) && fits(template))?;
        let operation = &found[answer.method.as_str().to_lowercase()];
        operation.pointer("/responses/200/content/application~1json/schema")
    }

    /// Adds what a value has, or lacks, against its schema.
    fn check(&self, at: &str, schema: &Value, value: &Value, faults: &mut BTreeSet<String>) {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            return self.check(name, self.schema(name), value, faults);
        }
        if value.is_null() && schema["nullable"] == true {
            return;
        }
        if let Some(options) = schema["anyOf"].as_array() {
            return self.check_any(at, options, value, faults);
        }
        let fits = match objects::text(schema, "type") {
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => true,
        };
        if !fits {
            faults.insert(format!("{at}: {value} is no {}", schema["type"]));
            return;
        }
        if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
            faults.insert(format!("{at}: {value} is none of {}", schema["enum"]));
        }
        let longest = schema["maxLength"].as_u64().and_then(|most| usize::try_from(most).ok());
        let length = value.as_str().map_or(0, |text| text.chars().count());
        if longest.is_some_and(|most| length > most) {
            faults.insert(format!("{at}: longer than {}", schema["maxLength"]));
        }
        for entry in value.as_array().into_iter().flatten() {
            self.check(&format!("{at}[]"), &schema["items"], entry, faults);
        }
        self.check_fields(at, schema, value, faults);
    }

    fn check_fields(&self, at: &str, schema: &Value, value: &Value, faults: &mut BTreeSet<String>) {
        let Some(fields) = value.as_object() else { return };
        for required in schema["required"].as_array().into_iter().flatten() {
            let name = required.as_str().unwrap_or_default();
            if !fields.contains_key(name) {
                faults.insert(format!("{at}.{name}: missing"));
            }
        }
        // An object without either is any object.
        let (known, others) = (&schema["properties"], &schema["additionalProperties"]);
        if !known.is_object() && !others.is_object() {
            return;
        }
        for (name, field) in fields {
            let inner = known.get(name).or(Some(others).filter(|others| others.is_object()));
            match inner {
                Some(inner) => self.check(&format!("{at}.{name}"), inner, field, faults),
                None => drop(faults.insert(format!("{at}.{name}: unknown"))),
            }
        }
    }

    /// Checks a value that has one of several schemas, such as an id or its object.
    fn check_any(&self, at: &str, options: &[Value], value: &Value, faults: &mut BTreeSet<String>) {
        let is_object = |option: &&Value| option["$ref"].is_string() || option["type"] == "object";
        let options = options.iter().filter(|option| is_object(option) == value.is_object());
        let tried = options.map(|option| {
            let mut faults = BTreeSet::new();
            self.check(at, option, value, &mut faults);
            faults
        });
        // What fits best says most.
        match tried.min_by_key(BTreeSet::len) {
            Some(best) => faults.extend(best),
            None => drop(faults.insert(format!("{at}: {value} is none of its kinds"))),
        }
    }
}

#[tokio::test]
async fn every_answer_fits_the_specification_of_real_stripe_mock() {
    let spec = Spec::read();
    let tour = tour().await;
    let mut faults = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    for answer in &tour.answers {
        let Answer { method, path, status, body } = answer;
        let schema = spec.answer(answer);
        let schema = schema.unwrap_or_else(|| panic!("no schema of {method} {path} ({status})"));
        let name = schema["title"].as_str().unwrap_or(path);
        spec.check(name, schema, body, &mut faults);
        kinds.insert(body["object"].as_str().unwrap_or("error").to_owned());
    }
    for event in tour.simulator.events() {
        let object = &event["data"]["object"];
        let kind = objects::text(object, "object");
        spec.check(kind, spec.schema(kind), object, &mut faults);
        kinds.insert(format!("event of {}", objects::text(object, "object")));
    }
    let left_out = LEFT_OUT.map(str::to_owned).into();
    assert!(faults == left_out, "differs from what is left out: {faults:#?}");
    let expected = [
        "billing_portal.configuration",
        "billing_portal.session",
        "charge",
        "checkout.session",
        "customer",
        "error",
        "event",
        "event of charge",
        "event of checkout.session",
        "event of customer",
        "event of dispute",
        "event of invoice",
        "event of subscription",
        "invoice",
        "invoiceitem",
        "list",
        "price",
        "subscription",
        "subscription_item",
    ];
    assert_eq!(kinds, expected.map(str::to_owned).into(), "the tour has seen all kinds");
}

#[tokio::test]
async fn every_text_has_the_bound_of_the_specification_of_real_stripe_mock() {
    let spec = Spec::read();
    let simulator = simulator().await;
    let (customer, subscription) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    let mut bounded = 0;
    for (template, path) in [
        ("billing_portal/configurations", "billing_portal/configurations".to_owned()),
        ("billing_portal/sessions", "billing_portal/sessions".to_owned()),
        ("checkout/sessions", "checkout/sessions".to_owned()),
        ("customers", "customers".to_owned()),
        ("customers/{customer}", format!("customers/{customer}")),
        ("invoiceitems", "invoiceitems".to_owned()),
        ("prices", "prices".to_owned()),
        ("subscription_items", "subscription_items".to_owned()),
        ("subscriptions/{subscription_exposed_id}", format!("subscriptions/{subscription}")),
    ] {
        let content = &spec.0["paths"][format!("/v1/{template}")]["post"]["requestBody"]["content"];
        let form = &content["application/x-www-form-urlencoded"]["schema"]["properties"];
        for (name, schema) in form.as_object().expect("parameters") {
            let Some(most) = schema["maxLength"].as_u64() else { continue };
            let value = "x".repeat(usize::try_from(most).expect("a length") + 1);
            let key = format!("{path} {name}");
            let (_, answer) = post(&simulator, &path, &key, &[(name.as_str(), &value)]).await;
            let error = &answer["error"];
            assert_eq!(error["param"], *name, "{path}: {answer}");
            // What is not simulated is refused as unknown.
            if error["code"] != "parameter_unknown" {
                let message = objects::text(error, "message");
                assert!(
                    message.ends_with(&format!("must be at most {most} characters")),
                    "{answer}"
                );
                bounded += 1;
            }
        }
    }
    assert!(bounded > 20, "{bounded}");
}
