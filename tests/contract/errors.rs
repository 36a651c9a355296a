//! Every kind of error and its class: what stays on the queue, and what is recorded for an operator
//! (docs/events.md, "Errors").

use std::fmt::Write;

use axum::response::IntoResponse;
use shared::Error;
use shared::base::error::{Refusal, Service};
use shared::base::ids::StripeSessionId;
use tests::World;

#[tokio::test]
async fn every_error_has_its_reviewed_class_and_status() {
    let world = World::new().await;
    let mut list = String::new();
    let mut add = |name: &str, error: Error| {
        let class = if error.is_transient() { "transient" } else { "permanent" };
        writeln!(list, "{class} {} {name}", error.into_response().status().as_u16())
            .expect("written");
    };
    for (name, why) in [
        ("Malformed", Refusal::Malformed),
        ("Unauthenticated", Refusal::Unauthenticated),
        ("PaymentRequired", Refusal::PaymentRequired),
        ("Forbidden", Refusal::Forbidden),
        ("NotFound", Refusal::NotFound),
        ("Conflict", Refusal::Conflict),
        ("Precondition", Refusal::Precondition),
    ] {
        add(name, Error::refusal(why, "code", ""));
    }
    add("Exceeded", Error::exceeded("code", "", 1, 1));
    add("Invalid", Error::invalid("field", ""));
    add("Unfit", Error::unfit("code", []));
    add("InProgress", Error::InProgress);
    for service in [
        Service::Database,
        Service::Queue,
        Service::Secrets,
        Service::Stripe,
        Service::Keycloak,
        Service::Issuer,
        Service::Mail,
    ] {
        add(&format!("{service} unavailable"), Error::unavailable(service, ""));
        add(&format!("{service} refused"), Error::refused(service, ""));
    }
    add("Setting", Error::Setting(String::new()));
    add("Internal", Error::Internal(String::new()));
    // As PostgreSQL itself raises them.
    for (state, name) in [
        ("08006", "connection_failure"),
        ("22001", "string_data_right_truncation"),
        ("22021", "character_not_in_repertoire"),
        ("23502", "not_null_violation"),
        ("23503", "foreign_key_violation"),
        ("23505", "unique_violation"),
        ("23514", "check_violation"),
        ("25006", "read_only_sql_transaction"),
        ("25P03", "idle_in_transaction_session_timeout"),
        ("28P01", "invalid_password"),
        ("28000", "invalid_authorization_specification"),
        ("40001", "serialization_failure"),
        ("40P01", "deadlock_detected"),
        ("42501", "insufficient_privilege"),
        ("42703", "undefined_column"),
        ("42P01", "undefined_table"),
        ("53100", "disk_full"),
        ("53300", "too_many_connections"),
        ("54000", "program_limit_exceeded"),
        ("55P03", "lock_not_available"),
        ("57014", "query_canceled"),
        ("57P01", "admin_shutdown"),
        ("57P02", "crash_shutdown"),
        ("57P03", "cannot_connect_now"),
        ("58030", "io_error"),
        ("XX000", "internal_error"),
    ] {
        let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END $$");
        let error = world.db.batch_execute(&raise).await.expect_err("raised");
        add(&format!("PostgreSQL {state} {name}"), error.into());
    }
    let conversion = world
        .db
        .query_one("SELECT 'text'", &[])
        .await
        .expect("a row")
        .try_get::<_, i64>(0)
        .expect_err("another type");
    add("a value of another type than the code reads", conversion.into());
    let closed = {
        let dead = tests::connect(&world.settings["DATABASE_NAME"]).await;
        let _ = dead.execute("SELECT pg_terminate_backend(pg_backend_pid())", &[]).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        dead.execute("SELECT 1", &[]).await.expect_err("a closed connection")
    };
    add("a connection that was closed", closed.into());
    // As the services answer, retries of the client included.
    let session = StripeSessionId::parse("cs_test_1").expect("an id");
    for status in [400, 401, 402, 403, 404, 409, 424, 429, 500, 502, 503, 504] {
        let tries = if matches!(status, 409 | 424 | 429 | 403 | 500..) { 3 } else { 1 };
        world.stripe.fail_next(tries, status);
        add(
            &format!("Stripe answers {status}"),
            world.events.applier.stripe.checkout_session(&session).await.expect_err("refused"),
        );
    }
    for status in [400, 401, 403, 404, 409, 429, 500, 502, 503] {
        world.keycloak.fail_next_on(
            "/execute-actions-email",
            if status == 401 { 2 } else { 1 },
            status,
        );
        add(
            &format!("Keycloak answers {status}"),
            world
                .provisioning
                .outbox
                .keycloak
                .send_welcome_mail("somebody")
                .await
                .expect_err("refused"),
        );
    }
    // A change of this list is a change of what happens to a customer's payment.
    tests::reviewed("tests/contract/errors.txt", &list);
}
