//! `migrate` as CloudFormation calls it: it is answered whatever happens, and asks nothing of a
//! database that is going or ahead.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::put;
use migrate::cloudformation::ANSWER_LIMIT;
use serde_json::{Value, json};
use tests::{World, connect, text};

/// CloudFormation's side: the answers that it got, of which it refuses the first so many.
/// How often it still refuses, and the answers that it took.
type Answers = Arc<Mutex<(usize, Vec<Value>)>>;

struct CloudFormation {
    url: String,
    answers: Answers,
}

impl CloudFormation {
    async fn start(refused: usize) -> Self {
        let answers = Arc::new(Mutex::new((refused, Vec::new())));
        let take = |State(answers): State<Answers>, headers: HeaderMap, body: String| async move {
            assert_eq!(headers["content-type"], "", "the URL is signed without one");
            let mut answers = answers.lock().expect("the list");
            if answers.0 > 0 {
                answers.0 -= 1;
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            answers.1.push(serde_json::from_str(&body).expect("JSON"));
            StatusCode::OK
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url =
            format!("http://{}/answer?signature=x", listener.local_addr().expect("its address"));
        let router = Router::new().route("/answer", put(take)).with_state(answers.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, answers }
    }

    fn event(&self, change: &str) -> Value {
        json!({
            "RequestType": change, "ResponseURL": self.url, "StackId": "stack",
            "RequestId": "request", "LogicalResourceId": "Migration",
            "ResourceType": "Custom::Migration", "ResourceProperties": {"Migrations": "x"},
        })
    }

    /// The only answer that it took.
    fn answer(&self) -> Value {
        let answers = self.answers.lock().expect("the list").1.split_off(0);
        assert_eq!(answers.len(), 1, "{answers:?}");
        let answer = answers.into_iter().next().expect("one");
        for (name, value) in [
            ("StackId", "stack"),
            ("RequestId", "request"),
            ("LogicalResourceId", "Migration"),
            ("PhysicalResourceId", "migrations"),
        ] {
            assert_eq!(answer[name], value);
        }
        answer
    }
}

const TIME: Duration = Duration::from_mins(2);

#[tokio::test]
async fn a_deployment_migrates_once_and_is_told_so() {
    let (world, cloud) = (World::new().await, CloudFormation::start(0).await);
    let empty = format!("{}_created", world.settings["DATABASE_NAME"]);
    connect("postgres")
        .await
        .batch_execute(&format!("CREATE DATABASE {empty}"))
        .await
        .expect("a database");
    let env = world.env(&[("DATABASE_NAME", &empty)]);
    migrate::invoked(&env, &cloud.event("Create"), TIME).await.expect("answered");
    let answer = cloud.answer();
    assert!(
        answer["Status"] == "SUCCESS" && answer["Data"]["applied"].as_u64() > Some(9),
        "{answer}"
    );
    migrate::invoked(&env, &cloud.event("Update"), TIME).await.expect("answered");
    assert_eq!(cloud.answer()["Data"], json!({"applied": 0}));
    assert_eq!(
        migrate::invoked(&env, &json!({}), TIME).await.expect("a run"),
        json!({"applied": 0}),
        "whoever else calls gets the result"
    );
}

#[tokio::test]
async fn a_roll_back_finds_the_database_ahead_and_leaves_it() {
    let (world, cloud) = (World::new().await, CloudFormation::start(0).await);
    let later = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
                 VALUES (999, 'later', '2026-11-21T00:00:00Z', '1')";
    world.db.execute(later, &[]).await.expect("a later version's migration");
    migrate::invoked(&world.env(&[]), &cloud.event("Update"), TIME).await.expect("answered");
    let answer = cloud.answer();
    assert_eq!(
        (&answer["Status"], &answer["Data"]),
        (&json!("SUCCESS"), &json!({"applied": 0})),
        "{answer}"
    );
}

#[tokio::test]
async fn a_deletion_asks_nothing_of_the_database() {
    let (world, cloud) = (World::new().await, CloudFormation::start(0).await);
    let nothing = world.env(&[("DATABASE_HOST", ""), ("SECRETS_PREFIX", "nowhere/")]);
    migrate::invoked(&nothing, &cloud.event("Delete"), TIME).await.expect("answered");
    assert_eq!(cloud.answer()["Status"], "SUCCESS");
}

#[tokio::test]
async fn what_fails_is_answered_with_the_reason_and_is_no_error_that_lambda_repeats() {
    let (world, cloud) = (World::new().await, CloudFormation::start(0).await);
    for (setting, value, reason) in [
        ("SECRETS_PREFIX", "nowhere/", "nowhere/owner"),
        ("DATABASE_OWNER", "", "DATABASE_OWNER is empty"),
        ("DATABASE_NAME", "none", "none"),
    ] {
        migrate::invoked(&world.env(&[(setting, value)]), &cloud.event("Create"), TIME)
            .await
            .expect("answered");
        let answer = cloud.answer();
        assert!(
            answer["Status"] == "FAILED" && text(&answer["Reason"]).contains(reason),
            "{answer}"
        );
    }
    let mut half = cloud.event("Create");
    half["StackId"].take();
    assert!(
        !migrate::invoked(&world.env(&[]), &half, TIME)
            .await
            .expect_err("cannot be answered")
            .to_string()
            .contains("signature")
    );
}

#[tokio::test]
async fn a_migration_that_hangs_is_answered_before_the_function_ends() {
    let (world, cloud) = (World::new().await, CloudFormation::start(0).await);
    let holds = connect(&world.settings["DATABASE_NAME"]).await;
    holds.execute("SELECT pg_advisory_lock(x'70756c736500'::bigint)", &[]).await.expect("the lock");
    migrate::invoked(
        &world.env(&[]),
        &cloud.event("Update"),
        ANSWER_LIMIT + Duration::from_secs(2),
    )
    .await
    .expect("answered");
    let answer = cloud.answer();
    assert!(
        answer["Status"] == "FAILED" && text(&answer["Reason"]).contains("not migrated within 2 s"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_given_again() {
    let (world, cloud) = (World::new().await, CloudFormation::start(2).await);
    migrate::invoked(&world.env(&[]), &cloud.event("Update"), TIME).await.expect("answered");
    assert_eq!(cloud.answer()["Status"], "SUCCESS");
    let deaf = CloudFormation::start(100).await;
    let error = migrate::invoked(&world.env(&[]), &deaf.event("Update"), TIME)
        .await
        .expect_err("Lambda must repeat it")
        .to_string();
    assert!(error.contains("503") && !error.contains("signature"), "{error}");
}
