//! The Lambda binary of `device-tier`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::process::telemetry::exit(shared::http::run(device_tier::routes()).await)
}
