//! template.yaml against the code: every route, every setting and every permission that a function
//! uses is there, and no other; and the numbers that hold each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};

use billing::BillingApp;
use device_tier::DevicesApp;
use migrate::Migrate;
use operations::OperationsApp;
use provisioning::Provisioning;
use renewal::Renewals;
use serde_json::{Value, json};
use shared::base::clock::Clock;
use shared::http::app::{AppState as _, OperatorApp};
use shared::outside::secrets::Role;
use shared::process::config::Env;
use simulators::template::Template;
use stripe_events::StripeEvents;
use tenants::TenantsApp;
use tests::{SURROUNDINGS, World, stack, text};
use webhook::Webhook;

pub(super) fn template() -> Template {
    Template::read(&tests::repository("template.yaml")).expect("template.yaml")
}

/// The functions by the name of their folder, with the name of their resource.
pub(super) fn functions(template: &Template) -> BTreeMap<String, (String, Value)> {
    let all = template.functions().into_iter();
    all.map(|(resource, function)| {
        (text(&function["CodeUri"]).replace("functions/", ""), (resource.to_owned(), function))
    })
    .collect()
}

/// A list, or the one thing that stands for it.
fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_else(|| vec![value.clone()])
}

/// The sources of a function, in one text.
pub(super) fn source(name: &str) -> String {
    sources_below(&format!("functions/{name}/src"))
}

/// All sources below a folder of the repository, in one text.
pub(super) fn sources_below(folder: &str) -> String {
    let mut folders = vec![tests::repository(folder)];
    let mut all = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all += &fs::read_to_string(path).expect("a source");
            }
        }
    }
    all
}

/// Whose secrets a function reads, by what it names.
pub(super) fn roles(name: &str) -> Vec<Role> {
    let source = source(name);
    let all = [Role::Webhook, Role::Customer, Role::Operator, Role::System, Role::Owner];
    all.into_iter()
        .filter(|role| {
            source.contains(&format!("Role::{role:?}"))
                || source.contains(&format!("State<{role:?}App>"))
        })
        .collect()
}

#[test]
fn every_function_is_deployed_after_the_migrations_and_in_its_network() {
    let template = template();
    let functions = functions(&template);
    let folders = fs::read_dir(tests::repository("functions"))
        .expect("functions")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    assert_eq!(
        functions.keys().cloned().collect::<BTreeSet<_>>(),
        folders.collect::<BTreeSet<_>>()
    );
    for (name, (resource, function)) in &functions {
        let whole = &template.whole()["Resources"][resource];
        assert_eq!(whole["DependsOn"] == "Migration", name != "migrate", "{name}");
        assert_eq!(whole["Metadata"]["BuildMethod"], "rust-cargolambda", "{name}");
        assert_eq!(function["Architectures"], json!(["arm64"]), "{name}");
        assert_eq!(
            (&function["Runtime"], &function["Tracing"]),
            (&json!("provided.al2023"), &json!("Active")),
            "{name}"
        );
        assert_eq!(
            function["FunctionName"],
            json!({"Fn::Sub": format!("pulse-${{Stage}}-{name}")})
        );
        assert_eq!(function["VpcConfig"].is_null(), name == "webhook", "{name}");
        let database = !roles(name).iter().all(|role| *role == Role::Webhook);
        assert_eq!(
            function["VpcConfig"].is_object(),
            database,
            "{name}: in the network of the database"
        );
        let mails = list(&function["VpcConfig"]["SecurityGroupIds"])
            .contains(&json!({"Ref": "MailSecurityGroup"}));
        assert_eq!(
            mails,
            function["Environment"]["Variables"]["SMTP_HOST"].is_object(),
            "{name}: reaches the mail server"
        );
        assert_eq!(
            (&function["AutoPublishAlias"], &function["DeploymentPreference"]["Type"]),
            (&json!("live"), &json!({"Ref": "RollOut"})),
            "{name}"
        );
        assert_eq!(
            function["DeploymentPreference"]["Enabled"] == false,
            name == "migrate",
            "{name}"
        );
    }
    assert_eq!(
        template.whole()["Resources"]["Migration"]["DependsOn"],
        "DatabaseIngress",
        "it would be called before it is let in"
    );
    assert_eq!(template.properties("Migration")["ServiceToken"], json!({"Ref": "Migrate.Alias"}));
    let limit = template.properties("Migration")["ServiceTimeout"].as_u64().expect("a time-out");
    assert!(
        functions["migrate"].1["Timeout"].as_u64().expect("a time-out") < limit,
        "migrate must answer before CloudFormation gives up"
    );
}

/// Another digest has CloudFormation ask `migrate`; `PULSE_WRITE_REVIEWED` writes it.
#[test]
fn the_reviewed_digest_is_of_the_migrations() {
    let mut files: Vec<_> = fs::read_dir(tests::repository("migrations"))
        .expect("migrations")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for file in files {
        digest.update(file.file_name().expect("a name").as_encoded_bytes());
        digest.update(&fs::read(&file).expect("a migration"));
    }
    let digest = hex::encode(digest.finish());
    let old = text(&template().properties("Migration")["Migrations"]);
    let written = fs::read_to_string(tests::repository("template.yaml")).expect("template.yaml");
    tests::reviewed(
        "template.yaml",
        &written.replace(&format!("Migrations: {old}"), &format!("Migrations: {digest}")),
    );
}

#[test]
fn every_documented_route_reaches_its_function_and_no_other_does() {
    let whole = tests::api::openapi();
    let mut wanted = BTreeSet::from([(
        "webhook".to_owned(),
        "POST".to_owned(),
        "/webhook/stripe".to_owned(),
        true,
    )]);
    for (name, document) in tests::api::documents() {
        let document = serde_json::to_value(document).expect("JSON");
        for (path, item) in document["paths"].as_object().expect("paths") {
            for method in item.as_object().expect("operations").keys() {
                let open =
                    whole["paths"][path][method]["security"].as_array().is_some_and(Vec::is_empty);
                wanted.insert((name.to_owned(), method.to_uppercase(), path.clone(), open));
            }
        }
    }
    let mut routed = BTreeSet::new();
    for (name, (_, function)) in functions(&template()) {
        for (event, said) in function["Events"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, said)| said["Type"] == "HttpApi")
        {
            let said = &said["Properties"];
            assert_eq!(said["ApiId"], json!({"Ref": "HttpApi"}), "{event}");
            let route = (
                name.clone(),
                text(&said["Method"]),
                text(&said["Path"]),
                said["Auth"]["Authorizer"] == "NONE",
            );
            assert!(routed.insert(route), "{event} is there twice");
        }
    }
    let (lacking, idle): (Vec<_>, Vec<_>) =
        (wanted.difference(&routed).collect(), routed.difference(&wanted).collect());
    assert!(
        lacking.is_empty() && idle.is_empty(),
        "not routed: {lacking:#?}\nnot in the code: {idle:#?}"
    );
}

/// What a function may read that a deployment leaves at its default, or to Lambda.
const DEFAULTS: [&str; 8] = [
    "AWS_SESSION_TOKEN",
    "DATABASE_POOL_SIZE",
    "DATABASE_SSLMODE",
    "JWT_JWKS_URL",
    "LOG_LEVEL",
    "SMTP_CA_FILE",
    "STRIPE_API_BASE",
    "STRIPE_READS_PER_SECOND",
];

/// Starts each function with the settings that the template gives it and no other: those have the
/// values of the stack, and those that only a local stack has come from it.
#[tokio::test]
async fn every_setting_that_a_function_reads_is_set_and_none_is_set_that_it_does_not_read() {
    let world = World::new().await;
    let template = template();
    let globals = template.whole()["Globals"]["Function"]["Environment"]["Variables"]
        .as_object()
        .expect("globals")
        .clone();
    for (name, (resource, function)) in functions(&template) {
        let mut known: BTreeMap<String, String> = ["DATABASE_SSLMODE", "STRIPE_API_BASE"]
            .map(|local| (local.to_owned(), world.settings[local].clone()))
            .into();
        known.extend(SURROUNDINGS.map(|name| (name.to_owned(), stack(name))));
        // What a deployment would make has some name here.
        let given = |reference: &str| {
            Some(
                template.whole()["Parameters"][reference]
                    .get("Default")
                    .cloned()
                    .unwrap_or_else(|| json!([reference])),
            )
        };
        for (setting, value) in template.environment(&function, &given).expect("an environment") {
            let value = match setting.as_str() {
                "DATABASE_CA_FILE" => continue,
                "RENEWAL_QUEUE_URL" => world.settings["PROVISIONING_QUEUE_URL"].clone(),
                "SMTP_HOST" => "localhost".to_owned(),
                "SMTP_FROM" => "Pulse <billing@pulse.example>".to_owned(),
                _ => world.settings.get(&setting).cloned().unwrap_or(value),
            };
            known.insert(setting, value);
        }
        let read = Arc::new(Mutex::new(BTreeSet::new()));
        let env = {
            let (known, read) = (known.clone(), read.clone());
            Env::from_fn(move |setting| {
                read.lock().expect("the list").insert(setting.to_owned());
                known.get(setting).cloned()
            })
        };
        let clock = Clock::system();
        let started = match name.as_str() {
            "webhook" => Webhook::start(&env, clock).await.map(drop),
            "stripe-events" => StripeEvents::start(&env, clock).await.map(drop),
            "renewal" => Renewals::start(&env, clock).await.map(drop),
            "provisioning" => Provisioning::start(&env, clock).await.map(drop),
            "migrate" => Migrate::start(&env).await.map(drop),
            "billing" => BillingApp::start(&env, clock).await.map(drop),
            "device-tier" => DevicesApp::start(&env, clock).await.map(drop),
            "operations" => OperationsApp::start(&env, clock).await.map(drop),
            "tenants" => TenantsApp::start(&env, clock).await.map(drop),
            "allocations" | "operator-plans" | "subscriptions" => {
                OperatorApp::start(&env, clock).await.map(drop)
            }
            other => panic!("{other}: how does it start?"),
        };
        if let Err(error) = started {
            panic!("{name} does not start: {error}");
        }
        let read = read.lock().expect("the list");
        let set: BTreeSet<_> = function["Environment"]["Variables"]
            .as_object()
            .expect("settings")
            .keys()
            .cloned()
            .collect();
        let unset: Vec<_> = read
            .iter()
            .filter(|setting| {
                !set.contains(*setting)
                    && !DEFAULTS.contains(&setting.as_str())
                    && !SURROUNDINGS.contains(&setting.as_str())
            })
            .collect();
        assert!(unset.is_empty(), "{name} reads {unset:?}, which template.yaml does not set");
        let own = template.properties(&resource)["Environment"]["Variables"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        let idle: Vec<_> = own
            .keys()
            .filter(|setting| !read.contains(*setting) && !globals.contains_key(*setting))
            .collect();
        assert!(idle.is_empty(), "{name} does not read {idle:?}");
    }
}

/// What may be done to a queue whose URL a function has.
fn queue_actions(name: &str, setting: &str) -> (&'static str, &'static str) {
    match (name, setting) {
        ("stripe-events", "STRIPE_QUEUE_URL") => {
            ("StripeEventsQueue", "sqs:ChangeMessageVisibility")
        }
        (_, "STRIPE_QUEUE_URL") => ("StripeEventsQueue", "sqs:SendMessage"),
        (_, "STRIPE_DLQ_URL") => ("StripeEventsDeadLetters", "sqs:SendMessage"),
        (_, "PROVISIONING_QUEUE_URL") => ("ProvisioningQueue", "sqs:SendMessage"),
        (_, "RENEWAL_QUEUE_URL") => ("RenewalQueue", "sqs:SendMessage"),
        other => panic!("{other:?}: what is it?"),
    }
}

#[test]
fn every_permission_that_a_function_uses_is_granted_and_no_other() {
    let template = template();
    let mut policies = BTreeSet::new();
    for (name, (_, function)) in functions(&template) {
        let role = text(&function["Role"]["Fn::GetAtt"]).replace(".Arn", "");
        let mut granted = BTreeSet::new();
        for statement in template.properties(&role)["Policies"]
            .as_array()
            .expect("policies")
            .iter()
            .flat_map(|policy| list(&policy["PolicyDocument"]["Statement"]))
        {
            assert_eq!(statement["Effect"], "Allow");
            for action in list(&statement["Action"]) {
                granted.extend(
                    list(&statement["Resource"])
                        .into_iter()
                        .map(|resource| (text(&action), resource.to_string())),
                );
            }
        }
        let mut used = BTreeSet::new();
        for role in roles(&name) {
            let secret = if role == Role::Owner {
                "OwnerSecretArn".to_owned()
            } else {
                format!("{role:?}Secret")
            };
            used.insert((
                "secretsmanager:GetSecretValue".to_owned(),
                json!({"Ref": secret}).to_string(),
            ));
        }
        for setting in
            ["STRIPE_QUEUE_URL", "STRIPE_DLQ_URL", "PROVISIONING_QUEUE_URL", "RENEWAL_QUEUE_URL"]
        {
            if !function["Environment"]["Variables"][setting].is_null() {
                let (queue, action) = queue_actions(&name, setting);
                assert_eq!(
                    function["Environment"]["Variables"][setting],
                    json!({"Ref": queue}),
                    "{name}: {setting}"
                );
                used.insert((
                    action.to_owned(),
                    json!({"Fn::GetAtt": format!("{queue}.Arn")}).to_string(),
                ));
            }
        }
        for event in function["Events"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, event)| event)
            .filter(|event| event["Type"] == "SQS")
        {
            // AWS's "Execution role permissions" of an event source mapping.
            for action in ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"] {
                used.insert((action.to_owned(), event["Properties"]["Queue"].to_string()));
            }
        }
        assert_eq!(granted, used, "{name}");
        let managed: BTreeSet<_> = list(&template.properties(&role)["ManagedPolicyArns"])
            .iter()
            .map(|policy| text(&policy["Ref"]))
            .collect();
        let wanted = if name == "webhook" {
            &["RuntimePolicy"][..]
        } else {
            &["NetworkPolicy", "RuntimePolicy"]
        };
        assert_eq!(managed, wanted.iter().map(ToString::to_string).collect(), "{name}");
        policies.insert(role);
    }
    // The other roles are CodeDeploy's, and those that SAM makes for the schedules.
    let roles: BTreeSet<_> =
        template.of_type("AWS::IAM::Role").into_iter().map(str::to_owned).collect();
    assert_eq!(roles.difference(&policies).collect::<Vec<_>>(), ["RollOutRole"]);
}

#[test]
fn what_waits_on_a_queue_outlasts_what_takes_it() {
    let template = template();
    let functions = functions(&template);
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value}"));
    for (name, (_, function)) in &functions {
        for event in function["Events"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, event)| event)
            .filter(|event| event["Type"] == "SQS")
        {
            let mapping = &event["Properties"];
            let queue = template
                .properties(&text(&mapping["Queue"]["Fn::GetAtt"]).replace(".Arn", ""))
                .clone();
            assert!(
                number(&queue["VisibilityTimeout"]) >= 6 * number(&function["Timeout"]),
                "{name}"
            );
            assert!(
                number(&mapping["BatchSize"]) <= 10
                    && mapping["MaximumBatchingWindowInSeconds"].is_null(),
                "{name}"
            );
            assert!(
                number(&mapping["ScalingConfig"]["MaximumConcurrency"])
                    <= number(&function["ReservedConcurrentExecutions"]["Fn::If"][1]),
                "{name}: throttled is received"
            );
            assert_eq!(
                mapping["FunctionResponseTypes"] == json!(["ReportBatchItemFailures"]),
                name == "stripe-events"
            );
        }
    }
    let fourteen_days = 14 * 24 * 60 * 60;
    for queue in ["StripeEventsQueue", "StripeEventsDeadLetters"] {
        let queue = template.properties(queue);
        assert_eq!(
            (number(&queue["MessageRetentionPeriod"]), &queue["FifoQueue"]),
            (fourteen_days, &json!(true))
        );
        assert_eq!(
            (&queue["DeduplicationScope"], &queue["FifoThroughputLimit"]),
            (&json!("messageGroup"), &json!("perMessageGroupId"))
        );
    }
    assert_eq!(
        template.properties("StripeEventsQueue")["RedrivePolicy"],
        json!({"deadLetterTargetArn": {"Fn::GetAtt": "StripeEventsDeadLetters.Arn"},
        "maxReceiveCount": 150})
    );
    let guarded: BTreeSet<_> = template
        .of_type("AWS::SQS::QueuePolicy")
        .iter()
        .map(|policy| text(&template.properties(policy)["Queues"][0]["Ref"]))
        .collect();
    assert_eq!(
        guarded,
        template.of_type("AWS::SQS::Queue").into_iter().map(str::to_owned).collect(),
        "a queue that is read without TLS"
    );
}
