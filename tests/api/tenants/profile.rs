//! A company's profile and what Stripe says of it: one set of rules for values, whoever writes them.

use serde_json::{Value, json};
use simulators::stripe::{Address, Payer};
use tests::api::{Api, Who};
use tests::{World, text};

use super::{LINES, TENANTS};

fn profile_of(answer: &Value) -> Value {
    let fields = LINES.into_iter().chain(["name", "contact_email", "billing_email"]);
    fields.map(|field| (field.to_owned(), answer[field].clone())).collect()
}

/// Reads the profile and writes the same back, as the operator and as the customer.
async fn is_taken_back(api: &Api, tenant: &str) -> Value {
    let (operators, own) =
        (format!("{TENANTS}/{tenant}"), "/api/v1/customer/organization".to_owned());
    let customer = Who::Customer(tenant);
    let mut read = Value::Null;
    for (who, reader, method, path) in
        [(Who::Admin, Who::Operator, "PATCH", operators), (customer, customer, "PUT", own)]
    {
        let before = api.get(reader, &path).await.expect(200);
        let mut same = profile_of(&before);
        if method == "PUT" {
            // Where a company's data lies is the operators' decision.
            let faults = api.send(who, method, &path, &[], Some(same.clone())).await.faults();
            assert!(faults[0].starts_with("data_residency_region "), "{faults:?}");
            drop(same.as_object_mut().expect("an object").remove("data_residency_region"));
        }
        let after = api.send(who, method, &path, &[], Some(same)).await.expect(200);
        assert_eq!(after["version"], before["version"], "{method}: the same is no change");
        read = before;
    }
    profile_of(&read)
}

/// Trap 80.
#[tokio::test]
async fn what_a_checkout_writes_into_a_profile_the_api_takes_back() {
    let world = World::new().await;
    let api = world.api().await;
    // Of two bytes a character, and 200 of them: as long as a company's name may be.
    let longest = "Ä".repeat(200);
    let session = world.checkout(
        "price_pro_month",
        &[
            ("company_name", &longest),
            ("legal_name", &"ß".repeat(201)),
            ("industry", "IoT\u{7}\u{85} and  more\t"),
            ("admin_email", "jane@acme.example"),
            ("phone", "\u{1}"),
        ],
    );
    let address = Address {
        line1: Some("é".repeat(3000)),
        line2: Some(format!("{} x", "a".repeat(199))),
        city: Some("Springfield".to_owned()),
        ..Address::default()
    };
    let payer = Payer {
        email: format!("{}@ACME.example", "x".repeat(300)),
        name: None,
        phone: None,
        address: Some(address),
    };
    world.stripe.pay(&session, payer).expect("paid");
    world.receive(&[&world.event("checkout.session.completed")]).await;
    let row = world
        .row(
            "SELECT tenant_id, details FROM subscription_audit
             WHERE event_type = 'TENANT_PROVISIONED'",
        )
        .await;
    let tenant = text(&row["tenant_id"]);
    let profile = is_taken_back(&api, &tenant).await;
    assert_eq!(profile["name"], longest.as_str(), "what people have is kept whole");
    assert_eq!(profile["legal_name"], "ß".repeat(200).as_str());
    assert_eq!(profile["industry"], "IoT and  more");
    assert_eq!(profile["phone"], Value::Null);
    assert_eq!(profile["address_line1"], "é".repeat(200).as_str(), "cut at a character");
    assert_eq!(profile["address_line2"], "a".repeat(199).as_str(), "and no blank at its end");
    assert_eq!(profile["billing_email"], Value::Null, "a part of an address is another one");
    assert_eq!(
        row["details"]["shortened"],
        json!([
            "legal_name",
            "phone",
            "industry",
            "address_line1",
            "address_line2",
            "contact_email",
            "billing_email"
        ])
    );
    assert_eq!(row["details"]["checkout_session_id"], session.as_str());
}

/// Trap 80.
#[tokio::test]
async fn what_stripe_says_of_a_customer_fits_into_the_profile_and_the_api_takes_it_back() {
    let world = World::new().await;
    let api = world.api().await;
    let customer = linked(&world, &api, json!({})).await;
    world
        .stripe
        .update_customer(
            &customer,
            &json!({"email": "Pay@Acme.Example", "phone": "1".repeat(300),
                "address": {"line1": "東".repeat(500), "city": "Kyōto"}}),
        )
        .expect("changed");
    world.receive(&[&world.event("customer.updated")]).await;
    let profile = is_taken_back(&api, "acme").await;
    assert_eq!(profile["billing_email"], "pay@acme.example");
    assert_eq!(profile["phone"], "1".repeat(200).as_str());
    assert_eq!(profile["address_line1"], "東".repeat(200).as_str());
    let details = world
        .row(
            "SELECT details FROM subscription_audit WHERE event_type = 'TENANT_UPDATED'
             AND actor_type = 'system'",
        )
        .await;
    assert_eq!(details["details"], json!({"shortened": ["phone", "address_line1"]}));
}

/// Tenant `acme` with this profile, linked to a customer at Stripe of which nothing is known.
async fn linked(world: &World, api: &Api, mut new: Value) -> String {
    let made = reqwest::Client::new()
        .post(format!("{}v1/customers", world.stripe.base_url()))
        .bearer_auth(tests::stack("STRIPE_SECRET_KEY"))
        .send()
        .await
        .expect("an answer");
    let customer = text(&made.json::<Value>().await.expect("JSON")["id"]);
    for (field, value) in
        [("tenant_id", "acme"), ("name", "Acme"), ("stripe_customer_id", customer.as_str())]
    {
        new[field] = json!(value);
    }
    api.write("POST", TENANTS, new).await.expect(201);
    customer
}

fn at_stripe(world: &World, customer: &str, fields: &[&str]) -> Value {
    let object = world.stripe.object(customer).expect("the customer");
    fields.iter().map(|field| ((*field).to_owned(), object[*field].clone())).collect()
}

/// Trap 85.
#[tokio::test]
async fn what_changes_in_a_profile_reaches_the_stripe_customer_whoever_changes_it() {
    let world = World::new().await;
    let api = world.api().await;
    let customer = linked(&world, &api, json!({"city": "Kiel"})).await;
    let typed = json!({"email": "typed@acme.example", "description": "by hand"});
    world.stripe.update_customer(&customer, &typed).expect("typed at Stripe");
    let put = async |body: Value| {
        let path = "/api/v1/customer/organization";
        api.send(Who::Customer("acme"), "PUT", path, &[], Some(body)).await.expect(200)
    };
    let patch =
        async |body: Value| api.write("PATCH", &format!("{TENANTS}/acme"), body).await.expect(200);
    // Two changes before the step is performed: one step, with both.
    put(json!({"name": "Ärzte & Söhne", "phone": "+49 431 1", "industry": "IoT"})).await;
    patch(json!({"address_line1": "Weg 1"})).await;
    assert_eq!(world.outbox().await["done"], 1);
    assert_eq!(
        at_stripe(&world, &customer, &["name", "email", "phone", "address", "description"]),
        json!({"name": "Ärzte & Söhne", "email": "typed@acme.example", "phone": "+49 431 1",
            "address": {"line1": "Weg 1", "line2": null, "city": "Kiel", "state": null,
                "postal_code": null, "country": null}, "description": "by hand"}),
        "what nobody has changed here stays"
    );
    let audit = world
        .row(
            "SELECT tenant_id, actor_id, details FROM subscription_audit
             WHERE event_type = 'STRIPE_CUSTOMER_UPDATED'",
        )
        .await;
    assert_eq!(
        audit,
        json!({"tenant_id": "acme", "actor_id": "outbox", "details":
            {"stripe_customer_id": customer, "fields": ["address", "name", "phone"]}})
    );
    // What comes back as an event, and what concerns nobody there, is no further step. (The mail
    // address that was typed there is filled in here.)
    world.receive(&[&world.event("customer.updated")]).await;
    put(json!({"contact_name": "Jane", "company_size": "10"})).await;
    put(json!({"name": "Ärzte & Söhne"})).await;
    assert_eq!(world.outbox().await["done"], 0);
    // Stripe is away; a change that comes meanwhile goes with it.
    world.stripe.lose_answer_on("/customers/", 502);
    world.stripe.fail_next_on("/customers/", 2, 503);
    put(json!({"phone": null})).await;
    assert_eq!(world.outbox().await["retried"], 1);
    put(json!({"billing_email": "pay@acme.example"})).await;
    world.clock.pass(1000);
    assert_eq!(world.outbox().await["done"], 2, "and the organization's name");
    assert_eq!(
        at_stripe(&world, &customer, &["name", "email", "phone"]),
        json!({"name": "Ärzte & Söhne", "email": "pay@acme.example", "phone": null})
    );
    // Without a customer there is nothing to follow, also where it is taken off before the step.
    put(json!({"name": "Acme"})).await;
    patch(json!({"stripe_customer_id": null})).await;
    put(json!({"name": "Acme Ltd"})).await;
    assert_eq!(world.outbox().await["done"], 1);
    assert_eq!(at_stripe(&world, &customer, &["name"]), json!({"name": "Ärzte & Söhne"}));
    let steps = "outbox_steps WHERE kind = 'stripe_customer'";
    assert_eq!(world.count(steps).await, 1, "one for each tenant");
    assert_eq!(world.count("flags").await, 0);
}

/// Stripe would refuse the name along with the phone.
#[tokio::test]
async fn a_phone_too_long_for_stripe_is_kept_here_and_holds_up_nothing_there() {
    let world = World::new().await;
    let api = world.api().await;
    let customer = linked(&world, &api, json!({"phone": "+1"})).await;
    for (phone, there) in [
        ("+49 431 123456 ext. 12", Value::Null),
        ("+49 431 123456 ext 1", json!("+49 431 123456 ext 1")),
    ] {
        let change = json!({"phone": phone, "name": format!("Acme {phone}")});
        let changed = api.write("PATCH", &format!("{TENANTS}/acme"), change).await.expect(200);
        assert_eq!(changed["phone"], phone);
        assert_eq!(world.outbox().await["done"], 1, "{phone}");
        assert_eq!(
            at_stripe(&world, &customer, &["name", "phone"]),
            json!({"name": format!("Acme {phone}"), "phone": there})
        );
    }
}

/// Trap 86: Stripe's word of an older state would fill what a person has just cleared.
#[tokio::test]
async fn what_was_cleared_here_does_not_come_back_by_an_older_word_of_stripe() {
    let world = World::new().await;
    let api = world.api().await;
    let customer = linked(&world, &api, json!({"phone": "+1", "city": "Kiel"})).await;
    let old = json!({"phone": "+1", "address": {"city": "Kiel"}, "email": "pay@acme.example"});
    world.stripe.update_customer(&customer, &old).expect("as here");
    let event = world.event("customer.updated");
    let clear = async |field: &str| {
        api.write("PATCH", &format!("{TENANTS}/acme"), json!({field: null})).await.expect(200)
    };
    let profile = "SELECT phone, city, billing_email FROM tenants WHERE tenant_id = 'acme'";
    // The event comes before the step.
    clear("phone").await;
    world.receive(&[&event]).await;
    assert_eq!(
        world.row(profile).await,
        json!({"phone": null, "city": "Kiel", "billing_email": "pay@acme.example"})
    );
    // Stripe is read, then the city is cleared here and there, and only then the read is applied.
    let mut again = event.clone();
    again["id"] = json!("evt_again");
    let mut locker = tests::connect(&world.settings["DATABASE_NAME"]).await;
    let held = locker.transaction().await.expect("a transaction");
    held.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&customer])
        .await
        .expect("as an event of this customer");
    let meanwhile = async {
        world.a_lock_is_waited_for().await;
        clear("city").await;
        assert_eq!(world.outbox().await["done"], 1);
        held.commit().await.expect("released");
    };
    assert_eq!(world.post(&again).await.status(), 200);
    let (left, ()) = tokio::join!(world.drain(), meanwhile);
    assert_eq!(left, 0);
    assert_eq!(
        world.row(profile).await,
        json!({"phone": null, "city": null, "billing_email": "pay@acme.example"})
    );
    assert_eq!(
        at_stripe(&world, &customer, &["address"])["address"]["city"],
        Value::Null,
        "cleared there too"
    );
    // What is typed at Stripe after that is news.
    world.stripe.update_customer(&customer, &json!({"phone": "+2"})).expect("typed at Stripe");
    world.receive(&[&world.event("customer.updated")]).await;
    assert_eq!(world.row(profile).await["phone"], "+2");
}
