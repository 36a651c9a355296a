//! The Lambda binary of `tenants`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::process::telemetry::exit(shared::http::run(tenants::routes()).await)
}
