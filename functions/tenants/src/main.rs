//! The Lambda binary of `tenants`.

use std::process::ExitCode;

use shared::outside::secrets::Role;
use shared::process::config::{Env, KeycloakSettings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::process::telemetry::exit(run().await)
}

async fn run() -> Result<(), lambda_http::Error> {
    // Other functions go without Keycloak; this one must not start without it.
    KeycloakSettings::from_env(&Env::process())?;
    shared::http::run(tenants::routes(), &[Role::Operator]).await
}
