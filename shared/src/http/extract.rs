//! Extractors: who calls, and valid input. A request is refused in the order of the handler's
//! arguments: token and role first.

use std::sync::{Arc, OnceLock};

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use deserr::Deserr;
use lambda_http::request::RequestContext;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::IDEMPOTENCY_KEY;
use super::app::{App, AppState};
use super::auth::Claims;
use super::problem::Problem;
use crate::base::caller::{Consumer, Customer, Person};
use crate::base::error::Refusal;
use crate::base::fields::Faults;
use crate::base::version::IfMatch;
use crate::domain::idempotency::model::Key;
use crate::{Error, Result};

/// The caller, once the token is checked: for the log line, which is written outside the handler.
#[derive(Clone, Default)]
pub(super) struct Caller(Arc<OnceLock<Claims>>);

impl Caller {
    pub(super) fn get(&self) -> Option<&Claims> {
        self.0.get()
    }
}

async fn claims(parts: &mut Parts, app: &App) -> Result<Claims> {
    let header = parts.headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok());
    let token = header
        .and_then(|header| header.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let missing =
        || Error::refusal(Refusal::Unauthenticated, "missing_token", "A bearer token is required.");
    let claims = app.verifier().verify(token.ok_or_else(missing)?).await?;
    if let Some(caller) = parts.extensions.get::<Caller>() {
        // A handler has only one extractor that checks the token.
        let _ = caller.0.set(claims.clone());
    }
    Ok(claims)
}

fn person(claims: &Claims, parts: &Parts) -> Person {
    let ip = match parts.extensions.get::<RequestContext>() {
        Some(RequestContext::ApiGatewayV2(context)) => {
            context.http.source_ip.as_deref().and_then(|ip| ip.parse().ok())
        }
        _ => None,
    };
    Person { id: claims.subject.clone(), ip }
}

fn forbidden(code: &'static str, detail: &str) -> Error {
    Error::refusal(Refusal::Forbidden, code, detail)
}

/// Whoever has a token of ours, whatever its roles are.
#[derive(Debug, Clone)]
pub struct Anyone(pub Claims);

impl<S: AppState> FromRequestParts<S> for Anyone {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        claims(parts, state.app()).await.map(Self)
    }
}

/// A caller who may read as platform staff.
#[derive(Debug, Clone)]
pub struct Operator(pub Person);

impl<S: AppState> FromRequestParts<S> for Operator {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let claims = claims(parts, state.app()).await?;
        if claims.has("operator") || claims.has("operator_admin") {
            return Ok(Self(person(&claims, parts)));
        }
        Err(forbidden("operator_required", "This route needs the role operator."))
    }
}

/// A caller who may also write as platform staff.
#[derive(Debug, Clone)]
pub struct Admin(pub Person);

impl<S: AppState> FromRequestParts<S> for Admin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let claims = claims(parts, state.app()).await?;
        if claims.has("operator_admin") {
            return Ok(Self(person(&claims, parts)));
        }
        Err(forbidden("operator_admin_required", "This route needs the role operator_admin."))
    }
}

/// Another backend of the platform.
#[derive(Debug, Clone, Copy)]
pub struct Service;

impl<S: AppState> FromRequestParts<S> for Service {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let claims = claims(parts, state.app()).await?;
        if claims.has("service") {
            return Ok(Self);
        }
        Err(forbidden("service_required", "This route needs the role service."))
    }
}

/// The parameters of a path. A malformed one names nothing that exists, so it is a 404.
#[derive(Debug, Clone)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(Error::not_found("not_found", "There is no such thing here.")),
        }
    }
}

/// The query string. A 422 names every fault.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: Deserr<Faults>> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let pairs =
            axum::extract::Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let axum::extract::Query(pairs) = pairs
            .map_err(|_| Error::malformed("malformed_query", "The query string cannot be read."))?;
        let mut object = Map::new();
        for (name, value) in pairs {
            if object.insert(name.clone(), Value::String(value)).is_some() {
                return Err(Error::invalid(name, "is given twice"));
            }
        }
        Ok(Self(deserr::deserialize::<T, _, Faults>(Value::Object(object))?))
    }
}

/// A JSON body. A 422 names every fault.
#[derive(Debug, Clone)]
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: Deserr<Faults>> FromRequest<S> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> std::result::Result<Self, Response> {
        read(&bytes(request, state).await?).map(Self).map_err(Error::into_response)
    }
}

async fn bytes<S: Send + Sync>(
    request: Request,
    state: &S,
) -> std::result::Result<axum::body::Bytes, Response> {
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let bytes = axum::body::Bytes::from_request(request, state).await;
    let bytes = bytes.map_err(|rejection| {
        Problem::new(rejection.status(), "body_too_large", "The body is too large.").into_response()
    })?;
    if media != "application/json"
        && !(media.starts_with("application/") && media.ends_with("+json"))
        && !bytes.is_empty()
    {
        let detail = "The body must be application/json.";
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            detail,
        )
        .into_response());
    }
    Ok(bytes)
}

/// Reads a body. An empty one is an empty object, so a required field is reported as missing.
fn read<T: Deserr<Faults>>(bytes: &[u8]) -> Result<T> {
    let value = match bytes {
        [] => Value::Object(Map::new()),
        bytes => serde_json::from_slice(bytes).map_err(|error| {
            Error::malformed(
                "malformed_json",
                format!("The body is not JSON (line {}, column {}).", error.line(), error.column()),
            )
        })?,
    };
    Ok(deserr::deserialize::<T, Value, Faults>(value)?)
}

/// A JSON body with the key that makes a repetition the same request (docs/api.md, "Idempotency").
#[derive(Debug, Clone)]
pub struct Idempotent<T>(pub Option<Key>, pub T);

impl<S: Send + Sync, T: Deserr<Faults>> FromRequest<S> for Idempotent<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> std::result::Result<Self, Response> {
        let caller = request.extensions().get::<Caller>().and_then(Caller::get).cloned();
        // With the query: a dry run is not the request itself.
        let path = request
            .uri()
            .path_and_query()
            .map_or_else(|| request.uri().path(), |whole| whole.as_str());
        let route = format!("{} {path}", request.method());
        let given =
            one_header(request.headers(), &IDEMPOTENCY_KEY).map_err(Error::into_response)?;
        let bytes = bytes(request, state).await?;
        let key = given.map(|given| {
            let caller = caller.ok_or_else(|| {
                Error::Internal("an idempotent route without a caller".to_owned())
            })?;
            // Staff act for no tenant, even if their token has one.
            let tenant = caller.tenant.as_ref().filter(|_| caller.has("customer"));
            Key::new(&given, &caller.subject, tenant, &route, &bytes)
        });
        let key = key.transpose().map_err(Error::into_response)?;
        read(&bytes).map(|body| Self(key, body)).map_err(Error::into_response)
    }
}

fn one_header(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    match (first.map(|value| value.to_str()), second) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value.to_owned())),
        _ => Err(Error::invalid(name.as_str(), "must be given once, in ASCII")),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let values: Vec<&str> = parts
            .headers
            .get_all(IF_MATCH)
            .iter()
            .map(|value| value.to_str().unwrap_or_default())
            .collect();
        if values.is_empty() {
            return Ok(Self::default());
        }
        // A weak tag or a malformed one is kept as it is, and never matches.
        Ok(Self::any_of(
            values
                .iter()
                .flat_map(|value| value.split(','))
                .map(|tag| tag.trim().to_owned())
                .collect(),
        ))
    }
}

impl<S: AppState> FromRequestParts<S> for Customer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let claims = claims(parts, state.app()).await?;
        if !claims.has("customer") {
            return Err(forbidden("customer_required", "This route needs the role customer."));
        }
        let person = person(&claims, parts);
        let tenant = claims
            .tenant
            .ok_or_else(|| forbidden("no_tenant", "The access token names no tenant."))?;
        Ok(Self { person, tenant })
    }
}

impl<S: AppState> FromRequestParts<S> for Consumer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let claims = claims(parts, state.app()).await?;
        match claims.tenant {
            _ if claims.has("service") => Ok(Self::Service),
            Some(tenant) if claims.has("customer") => Ok(Self::Customer(tenant)),
            None if claims.has("customer") => {
                Err(forbidden("no_tenant", "The access token names no tenant."))
            }
            _ => Err(forbidden(
                "customer_required",
                "This route needs the role customer, or service.",
            )),
        }
    }
}
