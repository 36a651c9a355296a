//! A function that cannot work does not start, and says in one line which setting is to blame.

use billing::BillingApp;
use provisioning::Provisioning;
use renewal::Renewals;
use serde_json::{Value, json};
use shared::http::app::AppState as _;
use shared::outside::secrets::{Role, Secrets};
use simulators::template::Template;
use stripe_events::StripeEvents;
use tenants::TenantsApp;
use tests::World;
use tests::api::Who;
use webhook::Webhook;

#[tokio::test]
async fn a_missing_or_malformed_setting_or_secret_is_named() {
    let world = World::new().await;
    let manager = aws_sdk_secretsmanager::Client::new(&tests::aws());
    let prefix = |name: &str| format!("{}/{name}/", world.settings["DATABASE_NAME"]);
    for (name, role, content) in [
        ("empty", "webhook", json!({"STRIPE_WEBHOOK_SECRET": [""]})),
        ("missing", "webhook", json!({})),
        ("string", "webhook", json!({"STRIPE_WEBHOOK_SECRET": "whsec_1"})),
        (
            "publishable",
            "system",
            json!({"DATABASE_PASSWORD": "x", "STRIPE_SECRET_KEY": "pk_test_1"}),
        ),
    ] {
        manager
            .create_secret()
            .name(format!("{}{role}", prefix(name)))
            .secret_string(content.to_string())
            .send()
            .await
            .expect("a secret");
    }
    let webhook = async |settings: &[(&str, &str)]| {
        Webhook::start(&world.env(settings), world.clock.reader())
            .await
            .err()
            .expect("refused")
            .to_string()
    };
    let events = async |settings: &[(&str, &str)]| {
        StripeEvents::start(&world.env(settings), world.clock.reader())
            .await
            .err()
            .expect("refused")
            .to_string()
    };
    let provisioning = async |settings: &[(&str, &str)]| {
        Provisioning::start(&world.env(settings), world.clock.reader())
            .await
            .err()
            .expect("refused")
            .to_string()
    };
    let messages = [
        (webhook(&[("STRIPE_QUEUE_URL", "")]).await, "STRIPE_QUEUE_URL is empty"),
        (webhook(&[("STRIPE_DLQ_URL", "")]).await, "STRIPE_DLQ_URL is empty"),
        (webhook(&[("SECRETS_PREFIX", &prefix("empty"))]).await, "STRIPE_WEBHOOK_SECRET is empty"),
        (
            webhook(&[("SECRETS_PREFIX", &prefix("missing"))]).await,
            "STRIPE_WEBHOOK_SECRET is missing",
        ),
        (
            webhook(&[("SECRETS_PREFIX", &prefix("string"))]).await,
            "is not a JSON object of its documented fields",
        ),
        (webhook(&[("SECRETS_PREFIX", &prefix("nowhere"))]).await, "nowhere/webhook"),
        (events(&[("STRIPE_API_BASE", "stripe")]).await, "STRIPE_API_BASE is not an http(s) URL"),
        (events(&[("DATABASE_PORT", "many")]).await, "DATABASE_PORT is not a port"),
        (
            events(&[("SECRETS_PREFIX", &prefix("publishable"))]).await,
            "STRIPE_SECRET_KEY is not a key",
        ),
        (
            events(&[("DATABASE_CA_FILE", "/nowhere.pem"), ("DATABASE_SSLMODE", "verify-full")])
                .await,
            "DATABASE_CA_FILE \"/nowhere.pem\"",
        ),
        (provisioning(&[("KEYCLOAK_REALM", " ")]).await, "KEYCLOAK_REALM is empty"),
        (
            provisioning(&[("WELCOME_REDIRECT_URI", "app.pulse.example")]).await,
            "WELCOME_REDIRECT_URI is not an http(s) URL",
        ),
        (provisioning(&[("WELCOME_CLIENT_ID", " ")]).await, "WELCOME_CLIENT_ID is empty"),
        (
            provisioning(&[("KEYCLOAK_ORGANIZATIONS", "yes")]).await,
            "KEYCLOAK_ORGANIZATIONS is not true or false",
        ),
        (provisioning(&[("SMTP_HOST", "")]).await, "SMTP_HOST is empty"),
        (provisioning(&[("SMTP_FROM", "Pulse")]).await, "SMTP_FROM is not a sender"),
        (
            provisioning(&[("SMTP_TLS", "ssl")]).await,
            "SMTP_TLS is not starttls (or true), tls, or disable (or false)",
        ),
        (provisioning(&[("SMTP_CA_FILE", "/nowhere.pem")]).await, "SMTP_CA_FILE \"/nowhere.pem\""),
        (
            provisioning(&[("OPERATOR_DIGEST_TO", "operators")]).await,
            "OPERATOR_DIGEST_TO is not a mail address",
        ),
        (provisioning(&[("SMTP_USER", "pulse")]).await, "SMTP_PASSWORD is missing"),
    ];
    for (message, expected) in messages {
        assert!(message.contains(expected) && !message.contains('\n'), "{message}");
        assert!(!message.contains("pk_test_1") && !message.contains("whsec_1"), "{message}");
    }
}

/// A deployment makes the secrets before anyone can fill them in: the rest must work meanwhile.
#[tokio::test]
async fn what_is_not_filled_in_yet_keeps_no_function_from_starting() {
    let mut world = World::new().await;
    let aws = tests::aws();
    let manager = aws_sdk_secretsmanager::Client::new(&aws);
    let template = Template::read(&tests::repository("template.yaml")).expect("template.yaml");
    let prefix = format!("{}/unfilled/", world.settings["DATABASE_NAME"]);
    for role in [Role::Webhook, Role::Customer, Role::Operator, Role::System] {
        let made = template.properties(&format!("{role:?}Secret"));
        let text = made["SecretString"]
            .as_str()
            .or_else(|| made["GenerateSecretString"]["SecretStringTemplate"].as_str())
            .expect("what a deployment writes");
        let mut content: Value = serde_json::from_str(text).expect("JSON");
        if role.database_user().is_some() {
            let held = Secrets::read(&aws, &world.env(&[]), role).await;
            let password = held.expect("the stack's secret").database_password();
            content["DATABASE_PASSWORD"] = json!(password.expect("a password"));
        }
        let name = format!("{prefix}{}", role.name());
        let made = manager.create_secret().name(name).secret_string(content.to_string());
        made.send().await.expect("a secret");
    }
    world.settings.insert("SECRETS_PREFIX".to_owned(), prefix);
    let (env, clock) = (world.env(&[("SMTP_USER", "pulse")]), || world.clock.reader());
    let outcomes = [
        ("webhook", Webhook::start(&env, clock()).await.map(drop)),
        ("stripe-events", StripeEvents::start(&env, clock()).await.map(drop)),
        ("provisioning", Provisioning::start(&env, clock()).await.map(drop)),
        ("renewal", Renewals::start(&env, clock()).await.map(drop)),
        ("billing", BillingApp::start(&env, clock()).await.map(drop)),
        ("tenants", TenantsApp::start(&env, clock()).await.map(drop)),
    ];
    for (function, outcome) in outcomes {
        assert!(outcome.is_ok(), "{function} does not start: {outcome:?}");
    }
    let api = world.api().await;
    assert_eq!(
        api.get(Who::Nobody, "/health").await.expect(200),
        json!({"status": "incomplete", "missing": ["STRIPE_SECRET_KEY", "KEYCLOAK_CLIENT_SECRET"]})
    );
    api.get(Who::Admin, "/api/v1/operator/plans").await.expect(200);
}
