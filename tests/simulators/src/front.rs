//! A proxy in front of any HTTP service. It answers a share of the calls with 503, to simulate an
//! unreliable upstream.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::server::Faults;
use crate::server::Server;

/// A running proxy. Dropping it stops the proxy.
pub struct Front {
    address: SocketAddr,
    _server: Server,
}

struct Upstream {
    base: String,
    http: reqwest::Client,
}

impl Front {
    /// Starts a proxy for `upstream` (`http://host:port`) that fails `percent` of 100 calls.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(upstream: &str, percent: u8) -> anyhow::Result<Self> {
        let (listener, address) = Server::bind(([127, 0, 0, 1], 0).into()).await?;
        let faults = Faults::new("/login-actions/", IntoResponse::into_response);
        faults.set_percent(percent);
        let state = Arc::new(Upstream {
            base: upstream.trim_end_matches('/').to_owned(),
            http: reqwest::Client::builder().no_proxy().build()?,
        });
        let app = Router::new().fallback(forward).with_state(state);
        Ok(Self { address, _server: Server::serve(listener, address, app, faults) })
    }

    /// Returns the proxy's base URL, without a trailing slash.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn forward(State(upstream): State<Arc<Upstream>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut headers = parts.headers;
    // These belong to one connection; the client sets its own for the upstream.
    headers.remove(header::HOST);
    headers.remove(header::CONTENT_LENGTH);
    let answer = upstream
        .http
        .request(parts.method, format!("{}{path}", upstream.base))
        .headers(headers)
        .body(body)
        .send()
        .await;
    let Ok(answer) = answer else { return StatusCode::BAD_GATEWAY.into_response() };
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    let Ok(body) = answer.bytes().await else { return StatusCode::BAD_GATEWAY.into_response() };
    (status, headers, Body::from(body)).into_response()
}
