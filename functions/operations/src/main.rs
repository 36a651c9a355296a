//! The Lambda binary of `operations`.

use std::process::ExitCode;

use shared::secrets::Role;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::telemetry::exit(shared::http::run(operations::routes(), &[Role::Operator]).await)
}
