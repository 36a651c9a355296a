//! The Lambda binary of `subscriptions`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::process::telemetry::exit(shared::http::run(subscriptions::routes()).await)
}
