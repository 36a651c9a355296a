//! The Lambda binary of `stripe-events`.

use std::convert::Infallible;
use std::process::ExitCode;

use aws_lambda_events::sqs::SqsEvent;
use lambda_runtime::{LambdaEvent, service_fn};
use shared::process::config::Env;
use shared::process::{business_time, telemetry};
use stripe_events::StripeEvents;
use tracing::Instrument;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    telemetry::exit(run().await)
}

async fn run() -> Result<(), lambda_runtime::Error> {
    let env = Env::process();
    telemetry::init(&env)?;
    let consumer = &StripeEvents::start(&env, business_time::clock(&env)?).await?;
    lambda_runtime::run(service_fn(|event: LambdaEvent<SqsEvent>| async move {
        let context = &event.context;
        let span = telemetry::request_span(&context.request_id, context.xray_trace_id.as_deref());
        Ok::<_, Infallible>(consumer.handle(event.payload).instrument(span).await)
    }))
    .await
}
