//! The Lambda binary of `renewal`.

use std::process::ExitCode;

use lambda_runtime::{LambdaEvent, service_fn};
use renewal::Renewals;
use serde_json::Value;
use shared::process::config::Env;
use shared::process::{business_time, telemetry};
use tracing::Instrument;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    telemetry::exit(run().await)
}

async fn run() -> Result<(), lambda_runtime::Error> {
    let env = Env::process();
    telemetry::init(&env)?;
    let worker = &Renewals::start(&env, business_time::clock(&env)?).await?;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        let context = &event.context;
        let span = telemetry::request_span(&context.request_id, context.xray_trace_id.as_deref());
        // Boxed: a run is the largest future that there is.
        let run = Box::pin(worker.handle(event.payload)).instrument(span);
        run.await.map_err(lambda_runtime::Error::from)
    }))
    .await
}
