//! The Lambda binary of `device-tier`.

use std::process::ExitCode;

use shared::outside::secrets::Role;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::process::telemetry::exit(
        shared::http::run(device_tier::routes(), &[Role::Customer, Role::Operator]).await,
    )
}
