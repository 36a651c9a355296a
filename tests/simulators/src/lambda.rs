//! Lambda's side of one instance of a function: AWS's "Using the Lambda runtime API for custom
//! runtimes".

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

/// A request as API Gateway's HTTP API hands it to a function (payload format 2.0): `target` is
/// path and query.
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

/// Hands calls to an instance. It lives as long as this value.
pub struct Lambda {
    /// What the instance is told as `AWS_LAMBDA_RUNTIME_API`.
    pub address: String,
    calls: mpsc::UnboundedSender<Call>,
    server: tokio::task::JoinHandle<()>,
}

struct Call {
    event: Value,
    answer: oneshot::Sender<Result<Value>>,
}

struct Waiting {
    calls: tokio::sync::Mutex<mpsc::UnboundedReceiver<Call>>,
    answers: Mutex<HashMap<String, oneshot::Sender<Result<Value>>>>,
    number: AtomicU64,
    timeout: Duration,
}

impl Lambda {
    /// For a function with this time-out.
    ///
    /// # Errors
    /// Where no port is free.
    pub async fn start(timeout: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (calls, received) = mpsc::unbounded_channel();
        let waiting = Waiting {
            calls: tokio::sync::Mutex::new(received),
            answers: Mutex::default(),
            number: AtomicU64::new(0),
            timeout,
        };
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{outcome}", post(answered))
            .with_state(Arc::new(waiting));
        // It ends with the listener.
        let server = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { address, calls, server })
    }

    /// Calls the function and waits for its answer.
    ///
    /// # Errors
    /// The function's own.
    pub async fn invoke(&self, event: Value) -> Result<Value> {
        let (answer, answered) = oneshot::channel();
        self.calls.send(Call { event, answer }).map_err(|_| anyhow!("no instance"))?;
        answered.await.map_err(|_| anyhow!("no answer"))?
    }
}

impl Drop for Lambda {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn next(State(waiting): State<Arc<Waiting>>) -> Result<(HeaderMap, Json<Value>), StatusCode> {
    let call = waiting.calls.lock().await.recv().await.ok_or(StatusCode::GONE)?;
    let id = format!("invocation-{}", waiting.number.fetch_add(1, Ordering::Relaxed));
    lock(&waiting.answers).insert(id.clone(), call.answer);
    let deadline = now() + waiting.timeout;
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

async fn answered(
    State(waiting): State<Arc<Waiting>>,
    Path((id, outcome)): Path<(String, String)>,
    body: String,
) -> StatusCode {
    let Some(answer) = lock(&waiting.answers).remove(&id) else { return StatusCode::BAD_REQUEST };
    let told = if outcome == "response" {
        serde_json::from_str(&body).map_err(Into::into)
    } else {
        Err(anyhow!(body))
    };
    // Whoever called may have given up.
    let _ = answer.send(told);
    StatusCode::ACCEPTED
}
