//! The Lambda side of the runtime API for one instance of a function, as specified in AWS's "Using
//! the Lambda runtime API for custom runtimes".

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use anyhow::anyhow;
use axum::Json;
use axum::Router;
use axum::extract::Path;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::routing::get;
use axum::routing::post;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::server::lock;
use crate::server::now;

/// Builds the event that API Gateway's HTTP API sends to a function (payload format 2.0). `target`
/// is the path and query.
#[must_use]
pub fn http_event(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Value {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: HashMap<_, _> = headers.iter().copied().collect();
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query,
        "headers": headers, "body": body, "isBase64Encoded": false,
        "requestContext": {
            "accountId": "1", "apiId": "api", "domainName": "api.example", "domainPrefix": "api",
            "requestId": "gateway-request-1", "routeKey": "$default",
            "stage": "$default", "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1_767_225_600_000_i64,
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1", "userAgent": "simulator"},
        },
    })
}

/// Sends invocations to one instance of a function. Dropping it stops the runtime API.
pub struct Lambda {
    /// Host and port, for the instance's `AWS_LAMBDA_RUNTIME_API`.
    pub address: String,
    calls: mpsc::UnboundedSender<Call>,
    server: tokio::task::JoinHandle<()>,
}

struct Call {
    event: Value,
    answer: oneshot::Sender<Result<Value>>,
}

struct RuntimeApi {
    calls: tokio::sync::Mutex<mpsc::UnboundedReceiver<Call>>,
    answers: Mutex<HashMap<String, oneshot::Sender<Result<Value>>>>,
    number: AtomicU64,
    timeout: Duration,
}

impl Lambda {
    /// Starts the runtime API for a function with this timeout.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(timeout: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (calls, received) = mpsc::unbounded_channel();
        let runtime = RuntimeApi {
            calls: tokio::sync::Mutex::new(received),
            answers: Mutex::default(),
            number: AtomicU64::new(0),
            timeout,
        };
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next_invocation))
            .route("/2018-06-01/runtime/invocation/{id}/{outcome}", post(report_outcome))
            .with_state(Arc::new(runtime));
        // Serving ends only with the listener, so its result does not matter.
        let server = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { address, calls, server })
    }

    /// Invokes the function and waits for its response.
    ///
    /// # Errors
    /// When the function reports an error, or the runtime API stops before a response arrives.
    pub async fn invoke(&self, event: Value) -> Result<Value> {
        let (answer, response) = oneshot::channel();
        self.calls.send(Call { event, answer }).map_err(|_| anyhow!("no instance"))?;
        response.await.map_err(|_| anyhow!("no answer"))?
    }
}

impl Drop for Lambda {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn next_invocation(
    State(runtime): State<Arc<RuntimeApi>>,
) -> Result<(HeaderMap, Json<Value>), StatusCode> {
    let call = runtime.calls.lock().await.recv().await.ok_or(StatusCode::GONE)?;
    let id = format!("invocation-{}", runtime.number.fetch_add(1, Ordering::Relaxed));
    lock(&runtime.answers).insert(id.clone(), call.answer);
    let deadline = now() + runtime.timeout;
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", deadline.as_millisecond().to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:000000000000:function:packaged".to_owned(),
        ),
    ] {
        headers.insert(
            name,
            HeaderValue::from_str(&value).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?,
        );
    }
    Ok((headers, Json(call.event)))
}

async fn report_outcome(
    State(runtime): State<Arc<RuntimeApi>>,
    Path((id, outcome)): Path<(String, String)>,
    body: String,
) -> StatusCode {
    let Some(answer) = lock(&runtime.answers).remove(&id) else { return StatusCode::BAD_REQUEST };
    let result = if outcome == "response" {
        serde_json::from_str(&body).map_err(Into::into)
    } else {
        Err(anyhow!(body))
    };
    // The caller may have stopped waiting.
    let _ = answer.send(result);
    StatusCode::ACCEPTED
}
