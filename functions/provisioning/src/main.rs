//! The Lambda binary of `provisioning`.

use std::process::ExitCode;

use lambda_runtime::{LambdaEvent, service_fn};
use provisioning::Provisioning;
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
    let worker = &Provisioning::start(&env, business_time::clock(&env)?).await?;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        let context = &event.context;
        let span = telemetry::request_span(&context.request_id, context.xray_trace_id.as_deref());
        worker.handle().instrument(span).await.map_err(lambda_runtime::Error::from)
    }))
    .await
}
