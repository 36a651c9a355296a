//! What every HTTP function has in common (docs/api.md): extractors, problems, one log line a
//! request, CORS, paging, OpenAPI.
//!
//! A handler extracts, calls one operation and answers. It holds no SQL, no match on errors and no
//! logging.

pub mod app;
pub mod auth;
mod extract;
pub mod openapi;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::header::{
    AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Router, middleware};
use lambda_http::RequestExt as _;
use lambda_http::request::RequestContext;
use serde::Serialize;
use serde_json::{Value, json};
use tower_http::cors::CorsLayer;

use self::app::App;
pub use self::extract::{Admin, Body, Idempotent, Operator, Path, Query};
use crate::Error;
use crate::base::error::{Refusal, Service as Outside};
pub use crate::base::paging::{Cursor, Limit, Offset, Page, PageQuery, Slice};
use crate::base::version::Versioned;

/// Names a request in every answer, log line and problem.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Makes a repeated POST the same request.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Seconds after which a caller may try again what failed for a while.
const RETRY_SECONDS: u16 = 5;

/// The routes of a function with what surrounds each.
pub fn serve(routes: Router<App>, app: App) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(app.origins().to_vec())
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IF_MATCH, IDEMPOTENCY_KEY])
        .expose_headers([ETAG, LOCATION, RETRY_AFTER, REQUEST_ID])
        .max_age(std::time::Duration::from_hours(1));
    routes
        .fallback(async || Error::not_found("no_such_route", "There is no such route."))
        .method_not_allowed_fallback(async || StatusCode::METHOD_NOT_ALLOWED.into_response())
        .layer(cors)
        .layer(middleware::from_fn(frame))
        .with_state(app)
}

/// The binary of an HTTP function; of its roles the first is the one that most requests act as
/// (`App::warm`).
///
/// # Errors
/// Where it does not start, or the Lambda runtime ends.
pub async fn run(
    routes: Router<App>,
    roles: &[crate::outside::secrets::Role],
) -> std::result::Result<(), lambda_http::Error> {
    let env = crate::process::config::Env::process();
    crate::process::telemetry::init(&env)?;
    let app = App::start(&env, crate::base::clock::Clock::system(), roles).await?;
    app.warm().await;
    lambda_http::run(serve(routes, app)).await
}

/// Around every request: its id, its log line, and the body of a problem.
async fn frame(mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(&request);
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(String::new, |path| path.as_str().to_owned());
    // The extractor that checks the token leaves here who called.
    let caller = extract::Caller::default();
    request.extensions_mut().insert(caller.clone());
    let span = tracing::info_span!("request", request.id = id);
    let mut answer = {
        use tracing::Instrument as _;
        next.run(request).instrument(span).await
    };
    if answer.status() == StatusCode::METHOD_NOT_ALLOWED {
        let problem = Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This route has no such method.",
        );
        answer.extensions_mut().insert(problem);
    }
    let problem = answer.extensions_mut().remove::<Problem>();
    if let Some(problem) = &problem {
        let (mut parts, _) = answer.into_parts();
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        parts.headers.remove(axum::http::header::CONTENT_LENGTH);
        answer = Response::from_parts(parts, axum::body::Body::from(problem.body(&id).to_string()));
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    let claims = caller.get();
    let (subject, tenant) = (
        claims.map(|claims| claims.subject.as_str()),
        claims.and_then(|claims| claims.tenant.as_ref()).map(tracing::field::display),
    );
    let (status, duration_ms) =
        (answer.status().as_u16(), u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    let (code, error) = (
        problem.as_ref().map(|problem| problem.code),
        problem.as_ref().and_then(|problem| problem.cause.as_deref()).map(tracing::field::display),
    );
    // One line a request, with the whole error where there was one; 5xx is what somebody should act
    // on.
    if status >= 500 {
        tracing::error!(request.id = id, http.method = %method, http.route = route,
            http.status = status, duration_ms, user.id = subject, tenant.id = tenant, code, error,
            "request");
    } else {
        tracing::info!(request.id = id, http.method = %method, http.route = route,
            http.status = status, duration_ms, user.id = subject, tenant.id = tenant, code, error,
            "request");
    }
    answer
}

/// API Gateway's id where it sent one, else Lambda's. Never one that a client chose.
fn request_id(request: &Request) -> String {
    let gateway = match request.extensions().get::<RequestContext>() {
        Some(RequestContext::ApiGatewayV2(context)) => context.request_id.clone(),
        _ => None,
    };
    gateway
        .or_else(|| request.lambda_context_ref().map(|context| context.request_id.clone()))
        .unwrap_or_default()
}

/// A refusal on its way out (RFC 9457); `frame` gives it the request's id and its body.
#[derive(Clone)]
struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    faults: Arc<Vec<crate::base::error::FieldFault>>,
    /// Limit and use, where one is exceeded.
    numbers: Option<(i64, i64)>,
    /// For the log only.
    cause: Option<Arc<str>>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            faults: Arc::default(),
            numbers: None,
            cause: None,
        }
    }

    fn body(&self, request_id: &str) -> Value {
        let title = self.status.canonical_reason().unwrap_or_default();
        let mut body = json!({
            "type": "about:blank", "title": title, "status": self.status.as_u16(),
            "code": self.code, "detail": self.detail, "request_id": request_id,
        });
        if let Some((limit, used)) = self.numbers {
            (body["limit"], body["used"], body["remaining"]) =
                (json!(limit), json!(used), json!((limit - used).max(0)));
        }
        if !self.faults.is_empty() {
            body["errors"] = json!(*self.faults);
        }
        body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                drop(headers.insert(RETRY_AFTER, RETRY_SECONDS.into()));
            }
            StatusCode::CONFLICT if self.code == "request_in_progress" => {
                drop(headers.insert(RETRY_AFTER, 1.into()));
            }
            _ => {}
        }
        (self.status, headers, axum::Extension(self)).into_response()
    }
}

/// The status of an error over HTTP. What our own parts or those outside did wrong is told in
/// general words; the log has the rest.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let code = self.code();
        // What a caller wrote has no place in the log: of a refusal the code is enough.
        let cause = (!matches!(
            self,
            Self::Refused { .. } | Self::Exceeded { .. } | Self::Invalid(_) | Self::Unfit { .. }
        ))
        .then(|| Arc::from(self.to_string()));
        let mut problem = match self {
            Self::Refused { why, detail, .. } => Problem::new(refusal_status(why), code, detail),
            Self::Exceeded { detail, limit, used, .. } => Problem {
                numbers: Some((limit, used)),
                ..Problem::new(StatusCode::PAYMENT_REQUIRED, code, detail)
            },
            Self::Invalid(faults) | Self::Unfit { faults, .. } => {
                let fields =
                    if faults.len() == 1 { "1 field" } else { &format!("{} fields", faults.len()) };
                Problem {
                    faults: Arc::new(faults),
                    ..Problem::new(
                        StatusCode::UNPROCESSABLE_ENTITY,
                        code,
                        format!("{fields} of the request cannot be taken."),
                    )
                }
            }
            Self::InProgress => Problem::new(
                StatusCode::CONFLICT,
                code,
                "A request with this Idempotency-Key is still running. Ask again.",
            ),
            Self::Upstream { service: service @ (Outside::Stripe | Outside::Keycloak), .. } => {
                Problem::new(
                    StatusCode::BAD_GATEWAY,
                    "upstream",
                    format!("{service} failed or did not answer. Try again later."),
                )
            }
            Self::Database(_) | Self::Upstream { .. } if self.is_transient() => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The service is not available at this moment. Try again.",
            ),
            Self::Setting(_) | Self::Database(_) | Self::Upstream { .. } | Self::Internal(_) => {
                Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "Something went wrong on our side.",
                )
            }
        };
        problem.cause = cause;
        problem.into_response()
    }
}

fn refusal_status(why: Refusal) -> StatusCode {
    match why {
        Refusal::Malformed => StatusCode::BAD_REQUEST,
        Refusal::Unauthenticated => StatusCode::UNAUTHORIZED,
        Refusal::Forbidden => StatusCode::FORBIDDEN,
        Refusal::NotFound => StatusCode::NOT_FOUND,
        Refusal::PaymentRequired => StatusCode::PAYMENT_REQUIRED,
        Refusal::Conflict => StatusCode::CONFLICT,
        Refusal::Precondition => StatusCode::PRECONDITION_FAILED,
    }
}

/// 200 with this as JSON. axum's own writes it piece by piece through a `BytesMut`, which takes a
/// page of a hundred a fifteenth more of the processor.
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

/// 200 with the resource as a change left it, its `ETag`, and `"status": "ok"`.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Updated<T> {
    status: &'static str,
    #[serde(flatten)]
    resource: T,
}

impl<T> Updated<T> {
    /// It went well.
    pub fn ok(resource: T) -> Self {
        Self { status: "ok", resource }
    }
}

impl<T: Versioned + Serialize> IntoResponse for Updated<T> {
    fn into_response(self) -> Response {
        ([(ETAG, etag(self.resource.version()))], Json(self)).into_response()
    }
}

/// 201 with the resource, its `ETag` and where it is.
pub struct Created<T> {
    /// Path of the new resource.
    pub location: String,
    /// It.
    pub resource: T,
}

impl<T: Versioned + Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let location =
            HeaderValue::from_str(&self.location).unwrap_or_else(|_| HeaderValue::from_static("/"));
        (StatusCode::CREATED, [(LOCATION, location)], Tagged(self.resource)).into_response()
    }
}

/// 201 with what was made, where it has neither a version nor a place of its own.
pub struct Made<T>(pub T);

impl<T: Serialize> IntoResponse for Made<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Json(self.0)).into_response()
    }
}

fn etag(version: i64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\""))
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}
