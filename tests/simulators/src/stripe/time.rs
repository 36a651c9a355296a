//! The door through which another process moves the simulator's time: Stripe has none such, so it is
//! beside the API.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use super::Core;
use super::http::authenticate;
use super::state::ApiError;
use super::state::Result;
use super::state::State as Store;
use crate::server::lock;

pub(super) fn router() -> Router<Arc<Core>> {
    Router::new().route("/clock", get(show).post(advance))
}

/// Returns the time, when something falls due next, how many events were handed to delivery, and
/// how many of these are not delivered yet.
async fn show(State(core): State<Arc<Core>>, headers: HeaderMap) -> Response {
    answer(&core, &headers, |_| Ok(()))
}

/// Applies everything that falls due up to the instant that the body is.
async fn advance(State(core): State<Arc<Core>>, headers: HeaderMap, body: Bytes) -> Response {
    answer(&core, &headers, |store| {
        let to = str::from_utf8(&body).ok().and_then(|text| text.parse::<Timestamp>().ok());
        let to = to.ok_or_else(|| ApiError::invalid("the body must be an instant"))?;
        store.advance_to(to);
        Ok(())
    })
}

fn answer(
    core: &Core,
    headers: &HeaderMap,
    act: impl FnOnce(&mut Store) -> Result<()>,
) -> Response {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    let mut store = lock(&core.state);
    let done = authenticate(core, authorization).and_then(|()| act(&mut store));
    done.map_or_else(IntoResponse::into_response, |()| axum::Json(shown(&store)).into_response())
}

fn shown(store: &Store) -> Value {
    let next = store.next_due().and_then(|due| Timestamp::from_second(due).ok());
    let undelivered = store.deliveries.iter().filter(|delivery| !delivery.is_received()).count();
    json!({
        "now": store.stamp().now, "next": next, "events": store.deliveries.len(),
        "undelivered": undelivered,
    })
}
