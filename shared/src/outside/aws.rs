//! What AWS's clients share: who calls, from the variables that Lambda sets, where to, and the one
//! HTTP client of the program. Their own chain of credentials and their own HTTP client are not
//! linked: a function needs neither, and would pay for both at each start (docs/adr/0012).

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
pub use aws_types::SdkConfig;
use aws_types::region::Region;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

use crate::Result;
use crate::process::config::Env;
use crate::process::tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);

/// The settings of every client, from `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`
/// and `AWS_SESSION_TOKEN`, which Lambda sets, and `AWS_ENDPOINT_URL_SQS` and
/// `AWS_ENDPOINT_URL_SECRETS_MANAGER`, which a local stack sets. Time-outs are short: Stripe
/// repeats a delivery that got no answer, and the outbox has its minute tick.
///
/// # Errors
/// `Setting` where one that Lambda sets is missing; `Internal`.
pub fn config(env: &Env) -> Result<SdkConfig> {
    config_within(env, ATTEMPT_TIMEOUT)
}

/// The same where an attempt may take longer: a long poll of a queue, which no function makes.
///
/// # Errors
/// Those of `config`.
pub fn config_within(env: &Env, attempt: Duration) -> Result<SdkConfig> {
    let (id, secret) = (env.required("AWS_ACCESS_KEY_ID")?, env.required("AWS_SECRET_ACCESS_KEY")?);
    let credentials =
        Credentials::new(id, secret, env.optional("AWS_SESSION_TOKEN")?, None, "environment");
    let mut endpoints = Vec::new();
    for service in ["SQS", "SECRETS_MANAGER"] {
        if let Some(url) = env.optional(&format!("AWS_ENDPOINT_URL_{service}"))? {
            endpoints.push((service, url));
        }
    }
    // Two attempts, and a pause between them.
    let all = 2 * attempt + Duration::from_secs(1);
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(attempt)
        .operation_timeout(all);
    let config = SdkConfig::builder()
        .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
        .region(Region::new(env.required("AWS_REGION")?))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .retry_config(RetryConfig::standard())
        .timeout_config(timeouts.build())
        // It takes a body that is in memory for a stalled one. The attempt's timeout bounds both.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .service_config(Endpoints(endpoints))
        .http_client(SharedHttpClient::new(Http(tls::http_client(CONNECT_TIMEOUT, attempt)?)));
    Ok(config.build())
}

/// Which services are elsewhere than in AWS.
#[derive(Debug)]
struct Endpoints(Vec<(&'static str, String)>);

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        let found =
            self.0.iter().find(|(known, _)| key.env() == "AWS_ENDPOINT_URL" && *known == service);
        found.map(|(_, url)| url.clone())
    }
}

/// The program's HTTP client, as the SDK calls one. Its bodies are small and in memory.
#[derive(Clone, Debug)]
struct Http(reqwest::Client);

impl HttpClient for Http {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Http {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move {
            let request =
                request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let request = request.map(|body| {
                reqwest::Body::from(body.bytes().map(<[u8]>::to_vec).unwrap_or_default())
            });
            let request = reqwest::Request::try_from(request)
                .map_err(|error| ConnectorError::user(error.into()))?;
            let answer = client.execute(request).await.map_err(unreached)?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let mut whole =
                axum::http::Response::new(SdkBody::from(answer.bytes().await.map_err(unreached)?));
            (*whole.status_mut(), *whole.headers_mut()) = (status, headers);
            HttpResponse::try_from(whole).map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

fn unreached(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() {
        ConnectorError::timeout(error.into())
    } else {
        ConnectorError::io(error.into())
    }
}
