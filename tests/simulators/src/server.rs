//! What both simulators share: a socket that can be stopped and started again, injected faults, the
//! record of requests.

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

/// The real time.
#[expect(
    clippy::disallowed_methods,
    reason = "a simulator is the outside world, which has a clock of its own"
)]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// The faults to inject and the requests seen.
pub(crate) struct Faults {
    inner: Mutex<Injected>,
    /// Writes an error in the product's own shape.
    error: fn(StatusCode) -> Response,
    /// Paths with this part are pages for people: neither recorded nor disturbed.
    pages: &'static str,
}

#[derive(Default)]
struct Injected {
    queue: VecDeque<Fault>,
    latency: Duration,
    requests: Vec<(String, String)>,
    /// Of a hundred requests, so many are answered 503, spread by a fixed sequence.
    percent: u8,
    sequence: u64,
}

struct Fault {
    path_part: String,
    status: StatusCode,
    after: bool,
}

impl Faults {
    pub(crate) fn new(pages: &'static str, error: fn(StatusCode) -> Response) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), error, pages })
    }

    /// Fails the next `n` requests whose path contains `path_part`; `after` does the work first and
    /// loses its answer.
    pub(crate) fn fail(&self, path_part: &str, n: usize, status: u16, after: bool) {
        let status = StatusCode::from_u16(status).expect("an HTTP status");
        let faults = (0..n).map(|_| Fault { path_part: path_part.to_owned(), status, after });
        lock(&self.inner).queue.extend(faults);
    }

    /// Forgets the failures that no request has met yet.
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

    fn next(&self, method: &str, path: &str) -> (Duration, Option<Fault>) {
        let mut inner = lock(&self.inner);
        inner.requests.push((method.to_owned(), path.to_owned()));
        let hit = inner.queue.iter().position(|fault| path.contains(&fault.path_part));
        let mut fault = hit.and_then(|index| inner.queue.remove(index));
        // Knuth's MMIX generator.
        inner.sequence = inner
            .sequence
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        if fault.is_none() && (inner.sequence >> 33) % 100 < u64::from(inner.percent) {
            fault = Some(Fault {
                path_part: String::new(),
                status: StatusCode::SERVICE_UNAVAILABLE,
                after: false,
            });
        }
        (inner.latency, fault)
    }
}

async fn disturb(State(faults): State<Arc<Faults>>, request: Request, next: Next) -> Response {
    if request.uri().path().contains(faults.pages) {
        return next.run(request).await;
    }
    let (latency, fault) = faults.next(request.method().as_str(), request.uri().path());
    tokio::time::sleep(latency).await;
    let Some(fault) = fault else {
        return next.run(request).await;
    };
    if fault.after {
        next.run(request).await;
    }
    (faults.error)(fault.status)
}

/// A running server; dropping it closes the socket.
pub(crate) struct Server {
    address: SocketAddr,
    app: Router,
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Server {
    /// Binds the socket without serving yet, so that the state can know its own address.
    pub(crate) async fn bind(listen: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    /// Serves `app` on a socket of [`Server::bind`].
    pub(crate) fn serve(
        listener: TcpListener,
        address: SocketAddr,
        app: Router,
        faults: Arc<Faults>,
    ) -> Self {
        let app = app.layer(from_fn_with_state(faults, disturb));
        let running = Mutex::new(Some(spawn(listener, app.clone())));
        Self { address, app, running }
    }

    /// Closes the socket; requests under way get two seconds to end.
    pub(crate) async fn stop(&self) {
        let running = lock(&self.running).take();
        if let Some((stop, mut task)) = running {
            drop(stop);
            if tokio::time::timeout(Duration::from_secs(2), &mut task).await.is_err() {
                task.abort();
            }
        }
    }

    /// Serves again, on the same port and with the same state.
    pub(crate) async fn restart(&self) -> anyhow::Result<()> {
        self.stop().await;
        let (listener, _) = Self::bind(self.address).await?;
        *lock(&self.running) = Some(spawn(listener, self.app.clone()));
        Ok(())
    }
}

fn spawn(listener: TcpListener, app: Router) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        // Dropping the sender is the signal.
        let signal = async move { drop(stopped.await) };
        drop(axum::serve(listener, app).with_graceful_shutdown(signal).await);
    });
    (stop, task)
}

/// The value of an `Authorization` header of the Basic scheme.
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

/// Escapes text for HTML, also inside a double-quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Decodes a query string or a form body, in order.
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
