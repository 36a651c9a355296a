//! The Lambda binary of `tenants`.

use std::process::ExitCode;

use shared::secrets::Role;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::telemetry::exit(shared::http::run(tenants::routes(), &[Role::Operator]).await)
}
