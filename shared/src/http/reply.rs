//! Answers.

use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::Error;
use crate::base::version::Versioned;

/// 200 with this as JSON. axum's own `Json` writes piece by piece through a `BytesMut`, which needs
/// a fifteenth more CPU time for a page of a hundred.
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_string(&self.0) {
            Ok(body) => ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body)
                .into_response(),
            Err(error) => {
                Error::Internal(format!("an answer that is no JSON: {error}")).into_response()
            }
        }
    }
}

/// 200 with the resource and its `ETag`.
pub struct Tagged<T>(pub T);

impl<T: Versioned + Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        ([(ETAG, etag(self.0.version()))], Json(self.0)).into_response()
    }
}

/// 200 with the changed resource, its `ETag`, and `"status": "ok"`.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Updated<T> {
    status: &'static str,
    #[serde(flatten)]
    resource: T,
}

impl<T> Updated<T> {
    /// The answer to a change that succeeded.
    pub fn ok(resource: T) -> Self {
        Self { status: "ok", resource }
    }
}

impl<T: Versioned + Serialize> IntoResponse for Updated<T> {
    fn into_response(self) -> Response {
        ([(ETAG, etag(self.resource.version()))], Json(self)).into_response()
    }
}

/// 201 with the resource, its `ETag` and its `Location`.
pub struct CreatedTagged<T> {
    /// Path of the new resource.
    pub location: String,
    /// The new resource.
    pub resource: T,
}

impl<T: Versioned + Serialize> IntoResponse for CreatedTagged<T> {
    fn into_response(self) -> Response {
        let location =
            HeaderValue::from_str(&self.location).unwrap_or_else(|_| HeaderValue::from_static("/"));
        (StatusCode::CREATED, [(LOCATION, location)], Tagged(self.resource)).into_response()
    }
}

/// 201 with a resource that has neither a version nor a path of its own.
pub struct Created<T>(pub T);

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Json(self.0)).into_response()
    }
}

pub(crate) fn etag(version: i64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\""))
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}
