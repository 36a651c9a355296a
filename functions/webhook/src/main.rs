//! The Lambda binary of `webhook`.

use std::convert::Infallible;
use std::process::ExitCode;

use lambda_http::service_fn;
use shared::base::clock::Clock;
use shared::process::config::Env;
use shared::process::telemetry;
use webhook::Webhook;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    telemetry::exit(run().await)
}

async fn run() -> Result<(), lambda_http::Error> {
    let env = Env::process();
    telemetry::init(&env)?;
    // The machine's time, also on a stack whose business time is moved: it judges a signature.
    let webhook = &Webhook::start(&env, Clock::system()).await?;
    lambda_http::run(service_fn(|request| async move {
        Ok::<_, Infallible>(webhook.handle(request).await)
    }))
    .await
}
