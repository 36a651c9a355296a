//! The Lambda binary of `operator-plans`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::process::telemetry::exit(shared::http::run(operator_plans::routes()).await)
}
