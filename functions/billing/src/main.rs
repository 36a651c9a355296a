//! The Lambda binary of `billing`.

use std::process::ExitCode;

use shared::secrets::Role;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::telemetry::exit(shared::http::run(billing::routes(), &[Role::Customer]).await)
}
