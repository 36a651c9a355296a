//! The edge of the HTTP functions (docs/api.md): extractors, answers, problems, one log line per
//! request, CORS and OpenAPI.
//!
//! A handler extracts, calls one operation and answers. It has no SQL, no `match` on errors and no
//! log line.

pub mod app;
pub mod auth;
mod extract;
mod frame;
pub mod openapi;
mod problem;
mod reply;

use axum::http::{HeaderName, HeaderValue};

pub use self::extract::{Admin, Anyone, Body, Idempotent, Operator, Path, Query, Service};
pub use self::frame::{request_id, run, serve, trace_id};
pub use self::problem::problem_body;
pub use self::reply::{Created, CreatedTagged, Json, Tagged, Updated};

/// Names a request in every answer, log line and problem.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The same in what API Gateway answers itself.
pub(crate) const GATEWAY_REQUEST_ID: HeaderName = HeaderName::from_static("apigw-requestid");
/// Makes a repeated POST the same request.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The media type of a problem (RFC 9457).
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
