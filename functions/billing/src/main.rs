//! The Lambda binary of `billing`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::process::telemetry::exit(shared::http::run(billing::routes()).await)
}
