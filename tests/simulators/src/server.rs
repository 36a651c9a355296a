//! Shared by the simulators: a server that can stop and restart, fault injection, and a log of the
//! requests.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Locks a mutex whose data stays valid when a test panicked while holding it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the wall-clock time.
#[expect(
    clippy::disallowed_methods,
    reason = "a simulator stands for an external system, which has its own clock"
)]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// The faults to inject and the log of requests.
pub(crate) struct Faults {
    inner: Mutex<FaultState>,
    /// Builds an error response in the product's own shape.
    error: fn(StatusCode) -> Response,
    /// Paths that contain this are browser pages: they are not logged and get no faults.
    page_path: &'static str,
}

#[derive(Default)]
struct FaultState {
    queue: VecDeque<Fault>,
    latency: Duration,
    requests: Vec<(String, String)>,
    /// How many of 100 requests are answered with 503. A fixed pseudo-random sequence picks them.
    percent: u8,
    sequence: u64,
}

struct Fault {
    path_part: String,
    status: StatusCode,
    /// The request is carried out first, and only its response is lost.
    lose_response: bool,
}

impl Faults {
    pub(crate) fn new(page_path: &'static str, error: fn(StatusCode) -> Response) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), error, page_path })
    }

    /// Fails the next `n` requests whose path contains `path_part`. With `lose_response`, each is
    /// carried out first, and only its response is lost.
    pub(crate) fn fail(&self, path_part: &str, n: usize, status: u16, lose_response: bool) {
        let status = StatusCode::from_u16(status).expect("an HTTP status");
        let faults =
            (0..n).map(|_| Fault { path_part: path_part.to_owned(), status, lose_response });
        lock(&self.inner).queue.extend(faults);
    }

    /// Removes the faults that no request has hit yet, and the share of random ones.
    pub(crate) fn clear(&self) {
        let mut inner = lock(&self.inner);
        inner.queue.clear();
        inner.percent = 0;
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        lock(&self.inner).latency = latency;
    }

    pub(crate) fn set_percent(&self, percent: u8) {
        lock(&self.inner).percent = percent;
    }

    pub(crate) fn requests(&self) -> Vec<(String, String)> {
        lock(&self.inner).requests.clone()
    }

    /// Logs a request and returns its latency and fault.
    fn record(&self, method: &str, path: &str) -> (Duration, Option<Fault>) {
        let mut inner = lock(&self.inner);
        inner.requests.push((method.to_owned(), path.to_owned()));
        let hit = inner.queue.iter().position(|fault| path.contains(&fault.path_part));
        let mut fault = hit.and_then(|index| inner.queue.remove(index));
        // Knuth's MMIX linear congruential generator.
        inner.sequence = inner
            .sequence
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        if fault.is_none() && (inner.sequence >> 33) % 100 < u64::from(inner.percent) {
            fault = Some(Fault {
                path_part: String::new(),
                status: StatusCode::SERVICE_UNAVAILABLE,
                lose_response: false,
            });
        }
        (inner.latency, fault)
    }
}

async fn inject_faults(
    State(faults): State<Arc<Faults>>,
    request: Request,
    next: Next,
) -> Response {
    if request.uri().path().contains(faults.page_path) {
        return next.run(request).await;
    }
    let (latency, fault) = faults.record(request.method().as_str(), request.uri().path());
    tokio::time::sleep(latency).await;
    let Some(fault) = fault else {
        return next.run(request).await;
    };
    if fault.lose_response {
        next.run(request).await;
    }
    (faults.error)(fault.status)
}

/// A running server. Dropping it closes the socket.
pub(crate) struct Server {
    address: SocketAddr,
    app: Router,
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Server {
    /// Binds the socket without serving yet, because the state needs the address.
    pub(crate) async fn bind(listen: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    /// Serves `app` on a socket from [`Server::bind`].
    pub(crate) fn serve(
        listener: TcpListener,
        address: SocketAddr,
        app: Router,
        faults: Arc<Faults>,
    ) -> Self {
        let app = app.layer(from_fn_with_state(faults, inject_faults));
        let running = Mutex::new(Some(spawn(listener, app.clone())));
        Self { address, app, running }
    }

    /// Closes the socket. Requests in progress get two seconds to finish.
    pub(crate) async fn stop(&self) {
        let running = lock(&self.running).take();
        if let Some((stop, mut task)) = running {
            drop(stop);
            if tokio::time::timeout(Duration::from_secs(2), &mut task).await.is_err() {
                task.abort();
            }
        }
    }

    /// Serves again on the same port with the same state.
    pub(crate) async fn restart(&self) -> anyhow::Result<()> {
        self.stop().await;
        let (listener, _) = Self::bind(self.address).await?;
        *lock(&self.running) = Some(spawn(listener, self.app.clone()));
        Ok(())
    }
}

fn spawn(listener: TcpListener, app: Router) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stop_signal) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        // The receiver resolves when the sender is dropped.
        let signal = async move { drop(stop_signal.await) };
        drop(axum::serve(listener, app).with_graceful_shutdown(signal).await);
    });
    (stop, task)
}

/// Returns the `Authorization` header value for HTTP Basic credentials.
pub(crate) fn basic(user: &str, password: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut header = String::from("Basic ");
    for chunk in format!("{user}:{password}").as_bytes().chunks(3) {
        let bits = (0..3)
            .fold(0_usize, |bits, i| bits << 8 | usize::from(chunk.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let symbol = if i > chunk.len() { b'=' } else { ALPHABET[bits >> (18 - 6 * i) & 63] };
            header.push(char::from(symbol));
        }
    }
    header
}

/// Escapes text for HTML, including double-quoted attribute values.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Decodes a query string or a form body into its pairs, in order.
pub(crate) fn pairs(encoded: &str) -> Vec<(String, String)> {
    let mut url = reqwest::Url::parse("http://localhost/").expect("a constant URL");
    url.set_query(Some(encoded));
    url.query_pairs().into_owned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_padded_base64() {
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(basic("sk", ""), "Basic c2s6");
    }
}
