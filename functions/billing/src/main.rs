//! The Lambda binary of `billing`.

use std::process::ExitCode;

use shared::outside::secrets::Role;
use shared::process::config::{Env, stripe_publishable_key};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::process::telemetry::exit(run().await)
}

async fn run() -> Result<(), lambda_http::Error> {
    // Other functions go without Stripe; this one must not start without it.
    if stripe_publishable_key(&Env::process())?.is_none() {
        return Err("STRIPE_PUBLISHABLE_KEY is not set".into());
    }
    shared::http::run(billing::routes(), &[Role::Customer]).await
}
