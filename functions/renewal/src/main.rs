//! The Lambda binary of `renewal`.

use std::process::ExitCode;

use lambda_runtime::{LambdaEvent, service_fn};
use renewal::Renewals;
use serde_json::Value;
use shared::base::clock::Clock;
use shared::process::config::Env;
use shared::process::telemetry;
use tracing::Instrument;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    telemetry::exit(Box::pin(run()).await)
}

async fn run() -> Result<(), lambda_runtime::Error> {
    let env = Env::process();
    telemetry::init(&env)?;
    let worker = &Renewals::start(&env, Clock::system()).await?;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        let span = tracing::info_span!(
            "renewal",
            request.id = event.context.request_id,
            trace.id = event.context.xray_trace_id
        );
        worker.handle(event.payload).instrument(span).await.map_err(lambda_runtime::Error::from)
    }))
    .await
}
