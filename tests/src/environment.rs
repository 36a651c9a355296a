//! What tests run on: the stack's settings, and databases, queues, and simulators of Stripe and
//! Keycloak of a test's own.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use shared::outside::aws::SdkConfig;
use shared::process::config::Env;
use simulators::keycloak::Fake;
use simulators::stripe::{Interval, Price, Simulator};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

/// A setting of the running stack.
///
/// # Panics
/// Where no stack's settings are in the environment.
#[must_use]
pub fn stack(name: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the stack's settings come by the environment")]
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: run the tests by `cargo xtask test`, or export .dev/stack.env of a \
         running stack"
        )
    })
}

/// What Lambda sets itself, and where a local stack has what is AWS's elsewhere.
pub const SURROUNDINGS: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
];

/// AWS's clients, as the stack's functions have them.
///
/// # Panics
/// Where no stack's settings are in the environment.
#[must_use]
pub fn aws() -> SdkConfig {
    shared::outside::aws::config(&Env::process()).expect(
        "the stack's settings: run the tests by `cargo xtask test`, or export .dev/stack.env of a \
         running stack",
    )
}

/// Connects as the owner to one of the stack's databases.
///
/// # Panics
/// Where that fails.
pub async fn connect(database: &str) -> Client {
    let mut config: tokio_postgres::Config = stack("DATABASE_URL").parse().expect("DATABASE_URL");
    let (client, connection) =
        config.dbname(database).connect(NoTls).await.expect("a connection as owner");
    tokio::spawn(connection);
    client
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A name that no other test of this run, nor of the run before on the same stack, has.
pub(crate) fn unique() -> String {
    format!("t{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// A migrated and seeded database that tests are copied from.
async fn template() -> &'static str {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    TEMPLATE
        .get_or_init(|| async {
            drop_left_over().await;
            let name = format!("template_{}", unique());
            make(&name, "").await;
            // The copy needs a template without connections.
            tokio::time::sleep(Duration::from_millis(100)).await;
            name
        })
        .await
}

/// Drops the databases of runs that are over: each leaves some hundred on a stack that stays up.
async fn drop_left_over() {
    let is_over = |process: &str| !Path::new("/proc").join(process).exists();
    if is_over("self") {
        return;
    }
    let owner = connect("postgres").await;
    let names = "SELECT datname, substring(datname FROM '^(?:template_)?t([0-9]+)_') AS process
                 FROM pg_database WHERE datname ~ '^(template_)?t[0-9]+_'";
    for row in owner.query(names, &[]).await.expect("the databases") {
        if is_over(row.get("process")) {
            let drop = format!("DROP DATABASE IF EXISTS {}", row.get::<_, &str>("datname"));
            // Another run may be dropping the same.
            let _ = owner.batch_execute(&drop).await;
        }
    }
}

/// Makes a database of these options, with the schema and the development seed.
async fn make(name: &str, options: &str) {
    connect("postgres")
        .await
        .batch_execute(&format!("CREATE DATABASE {name} {options}"))
        .await
        .expect("a database");
    let mut client = connect(name).await;
    migrate::migrations::run(&mut client).await.expect("migrations");
    client.batch_execute(include_str!("../../xtask/stack/dev-seed.sql")).await.expect("seed");
}

/// As `database`, on another locale than the server's, such as `LOCALE_PROVIDER libc LOCALE 'C'`.
pub(crate) async fn database_on(locale: &str) -> String {
    let name = unique();
    make(&name, &format!("TEMPLATE template0 ENCODING 'UTF8' {locale}")).await;
    name
}

/// A fresh database with the schema and the development seed.
///
/// # Panics
/// Where it cannot be made.
pub async fn database() -> String {
    copy_of(template().await).await
}

/// A copy of a database as it is at this moment, once nobody is connected to it.
pub(crate) async fn copy_of(database: &str) -> String {
    let name = unique();
    let sql = format!("CREATE DATABASE {name} TEMPLATE {database}");
    let owner = connect("postgres").await;
    for attempt in 0.. {
        match owner.batch_execute(&sql).await {
            Ok(()) => break,
            // Another copy, or the template's own last connection, is not gone yet.
            Err(error)
                if attempt < 50
                    && error.code() == Some(&tokio_postgres::error::SqlState::OBJECT_IN_USE) =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("no test database: {error:?}"),
        }
    }
    name
}

/// A Stripe with the seed's prices, and one that nothing here knows.
///
/// # Panics
/// Where it does not start.
pub async fn stripe() -> Simulator {
    let options = simulators::stripe::Options {
        listen: ([127, 0, 0, 1], 0).into(),
        secret_key: stack("STRIPE_SECRET_KEY"),
        webhook_secret: stack("STRIPE_WEBHOOK_SECRET"),
        webhook_url: None,
    };
    let stripe = Simulator::start(options).await.expect("Stripe");
    stripe.save_portal_settings();
    for id in [
        "price_starter_month",
        "price_pro_month",
        "price_pro_year",
        "price_enterprise_month",
        "price_basic_slot_month",
        "price_standard_slot_month",
        "price_unmapped",
        // In a further currency, mapped by nothing that the seed has.
        "price_starter_month_eur",
        "price_pro_month_eur",
        "price_pro_year_eur",
        "price_enterprise_month_eur",
        "price_basic_slot_month_eur",
        "price_standard_slot_month_eur",
        "price_standard_slot_year_eur",
    ] {
        let (name, currency) = id.strip_suffix("_eur").map_or((id, "usd"), |name| (name, "eur"));
        let interval = if name.ends_with("year") { Interval::Year } else { Interval::Month };
        stripe.add_price(Price {
            id: id.to_owned(),
            product: format!("prod_{id}"),
            currency: currency.to_owned(),
            unit_amount: 29_900,
            interval,
            nickname: id.to_owned(),
        });
    }
    stripe
}

/// An embedded Keycloak; without a mail server it only counts its mails.
///
/// # Panics
/// Where it does not start.
pub async fn keycloak(smtp: Option<std::net::SocketAddr>) -> Fake {
    let options = simulators::keycloak::Options {
        listen: ([127, 0, 0, 1], 0).into(),
        realm: stack("KEYCLOAK_REALM"),
        client_id: stack("KEYCLOAK_CLIENT_ID"),
        client_secret: stack("KEYCLOAK_CLIENT_SECRET"),
        smtp,
        origins: Vec::new(),
    };
    Fake::start(options).await.expect("Keycloak")
}

pub(crate) async fn queue(
    sqs: &aws_sdk_sqs::Client,
    name: &str,
    attributes: &[(QueueAttributeName, &str)],
) -> String {
    let mut create = sqs.create_queue().queue_name(name);
    for (attribute, value) in attributes {
        create = create.attributes(attribute.clone(), *value);
    }
    create.send().await.expect("a queue").queue_url().expect("its URL").to_owned()
}
