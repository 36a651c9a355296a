//! What every request has: CORS, its id, its log line, and the body of a problem.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, LOCATION, RETRY_AFTER,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Router, middleware};
use lambda_http::RequestExt as _;
use lambda_http::request::RequestContext;
use tower_http::cors::CorsLayer;
use tracing::Instrument as _;
use tracing::field::display;

use super::app::{App, AppState, warm};
use super::problem::Problem;
use super::{GATEWAY_REQUEST_ID, IDEMPOTENCY_KEY, PROBLEM_JSON, REQUEST_ID, extract};
use crate::Error;
use crate::process::config::Env;
use crate::process::metrics::Unit;
use crate::process::{business_time, metrics, telemetry};

/// Adds to routes what every request has.
pub fn serve(routes: Router, app: &App) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(app.origins().to_vec())
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IF_MATCH, IDEMPOTENCY_KEY])
        .expose_headers([ETAG, LOCATION, RETRY_AFTER, REQUEST_ID, GATEWAY_REQUEST_ID])
        .max_age(std::time::Duration::from_hours(1));
    routes
        .fallback(async || Error::not_found("no_such_route", "There is no such route."))
        .method_not_allowed_fallback(async || StatusCode::METHOD_NOT_ALLOWED.into_response())
        .layer(cors)
        .layer(middleware::from_fn(frame))
}

/// Runs an HTTP function as a Lambda binary.
///
/// # Errors
/// If it does not start, or the Lambda runtime ends.
pub async fn run<S: AppState>(routes: Router<S>) -> std::result::Result<(), lambda_http::Error> {
    let env = Env::process();
    telemetry::init(&env)?;
    let state = S::start(&env, business_time::clock(&env)?).await?;
    warm(&state).await;
    let app = state.app().clone();
    lambda_http::run(serve(routes.with_state(state), &app)).await
}

/// Surrounds every request with its id, its log line, and the body of a problem.
async fn frame(mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(&request).to_owned();
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(String::new, |path| path.as_str().to_owned());
    // The extractor that checks the token puts the caller here.
    let caller = extract::Caller::default();
    request.extensions_mut().insert(caller.clone());
    let span = telemetry::request_span(&id, trace_id(&request));
    let mut answer = next.run(request).instrument(span.clone()).await;
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
        answer.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        answer.headers_mut().remove(CONTENT_LENGTH);
        *answer.body_mut() = Body::from(problem.body(&id).to_string());
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    let status = answer.status().as_u16();
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let claims = caller.get();
    let subject = claims.map(|claims| claims.subject.as_str());
    let tenant = claims.and_then(|claims| claims.tenant.as_ref()).map(display);
    let code = problem.as_ref().map(|problem| problem.code);
    let error = problem.as_ref().and_then(|problem| problem.cause.as_deref()).map(display);
    let shown = if route.is_empty() { "(no route)" } else { &route };
    // A level is fixed where its event is written, so there are two events with the same fields.
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(http.method = %method, http.route = route,
                http.status = status, duration_ms, user.id = subject, tenant.id = tenant, code,
                error, "{method} {shown} {status} in {duration_ms} ms")
        };
    }
    let _entered = span.enter();
    // 5xx is what an operator must act on.
    if status >= 500 {
        log!(error);
        // A deployment is taken back because of it. Not for what anybody may ask for, or a stranger
        // could take it back while the database is slow.
        if caller.get().is_some() {
            metrics::put("Faults", Unit::Count, 1);
        }
    } else {
        log!(info);
    }
    answer
}

/// The id that API Gateway gave the request, else Lambda's. Never one that a client chose.
pub fn request_id<B>(request: &axum::http::Request<B>) -> &str {
    let gateway = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.request_id.as_deref(),
        _ => None,
    };
    gateway
        .or_else(|| request.lambda_context_ref().map(|context| context.request_id.as_str()))
        .unwrap_or_default()
}

/// The id of X-Ray's trace, of which the request is a part.
pub fn trace_id<B>(request: &axum::http::Request<B>) -> Option<&str> {
    request.lambda_context_ref()?.xray_trace_id.as_deref()
}
