//! The Lambda binary of `operations`.

use std::process::ExitCode;

use shared::outside::secrets::Role;
use shared::process::config;
use shared::process::config::Env;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::process::telemetry::exit(run().await)
}

async fn run() -> Result<(), lambda_http::Error> {
    // Other operators' functions go without Stripe's events and the hourly run; this one must not
    // start without them.
    for queue in ["STRIPE_QUEUE_URL", "RENEWAL_QUEUE_URL"] {
        config::queue_url(&Env::process(), queue)?;
    }
    shared::http::run(operations::routes(), &[Role::Operator]).await
}
