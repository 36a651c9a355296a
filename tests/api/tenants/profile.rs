//! A company's profile and what Stripe says of it: one set of rules for values, whoever writes them.

use serde_json::{Value, json};
use simulators::stripe::{Address, Payer};
use tests::World;
use tests::api::{Api, Who};

use super::TENANTS;

/// The fields of a profile.
const PROFILE: [&str; 15] = [
    "name",
    "legal_name",
    "contact_email",
    "contact_name",
    "billing_email",
    "phone",
    "industry",
    "company_size",
    "address_line1",
    "address_line2",
    "city",
    "state_province",
    "postal_code",
    "country",
    "data_residency_region",
];

fn profile_of(answer: &Value) -> Value {
    PROFILE.iter().map(|field| ((*field).to_owned(), answer[field].clone())).collect()
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
        let after = api.send(who, method, &path, &[], Some(profile_of(&before))).await.expect(200);
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
    let tenant = tests::text(&row["tenant_id"]);
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
    let customer = tests::text(&made.json::<Value>().await.expect("JSON")["id"]);
    for (field, value) in
        [("tenant_id", "acme"), ("name", "Acme"), ("stripe_customer_id", customer.as_str())]
    {
        new[field] = json!(value);
    }
    api.write("POST", TENANTS, new).await.expect(201);
    customer
}
