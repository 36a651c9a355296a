//! The Lambda binary of `migrate`.

use std::process::ExitCode;
use std::time::Duration;

use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::Value;
use shared::base::clock::Clock;
use shared::process::config::Env;
use shared::process::telemetry;
use tracing::Instrument;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    telemetry::exit(run().await)
}

async fn run() -> Result<(), lambda_runtime::Error> {
    let env = &Env::process();
    telemetry::init(env)?;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        let context = &event.context;
        let span = telemetry::request_span(&context.request_id, context.xray_trace_id.as_deref());
        let now = u64::try_from(Clock::system().now().as_millisecond()).unwrap_or_default();
        let left = Duration::from_millis(event.context.deadline.saturating_sub(now));
        migrate::invoked(env, &event.payload, left)
            .instrument(span)
            .await
            .map_err(lambda_runtime::Error::from)
    }))
    .await
}
