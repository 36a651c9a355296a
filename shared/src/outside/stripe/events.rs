//! Stripe's list of events.

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stripe_client_core::{RequestBuilder, StripeMethod};

use super::client::{Stripe, parse};
use crate::base::ids::StripeEventId;
use crate::{Error, Result};

/// Which events to list.
pub struct EventQuery<'a> {
    /// Those from this second on.
    pub from: Timestamp,
    /// Those before this instant, rounded up to a second.
    pub to: Timestamp,
    /// Of these types: at most 20.
    pub types: &'a [&'a str],
    /// Those that the list has after this one, which is older.
    pub after: Option<&'a StripeEventId>,
}

/// A page of events, the latest first.
#[derive(Deserialize)]
pub struct EventPage {
    /// Each whole, in the API version that the account had then.
    pub data: Vec<Value>,
    /// Whether older ones follow.
    pub has_more: bool,
}

#[derive(Serialize)]
struct ListQuery<'a> {
    created: Created,
    types: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    starting_after: Option<&'a str>,
    limit: u32,
}

#[derive(Serialize)]
struct Created {
    gte: i64,
    lt: i64,
}

impl Stripe {
    /// Lists a hundred events. Stripe keeps them for 30 days.
    ///
    /// # Errors
    /// `Upstream`; `Invalid` (`cursor`) where Stripe does not know `after`.
    pub async fn events(&self, query: &EventQuery<'_>) -> Result<EventPage> {
        let created = Created {
            gte: query.from.as_second(),
            lt: query.to.as_second() + i64::from(query.to.subsec_nanosecond() > 0),
        };
        let list = ListQuery {
            created,
            types: query.types,
            starting_after: query.after.map(StripeEventId::as_str),
            limit: 100,
        };
        let request = RequestBuilder::new(StripeMethod::Get, "/events").query(&list);
        let failure = match self.send(Method::GET, &request, None).await {
            Ok(answer) => return parse(&request, &answer),
            Err(failure) => failure,
        };
        let of_cursor = failure
            .said
            .as_ref()
            .is_some_and(|said| said.body.param.as_deref() == Some("starting_after"));
        let unknown = of_cursor && failure.is(StatusCode::BAD_REQUEST);
        Err(if unknown {
            Error::invalid("cursor", "names no event that Stripe lists")
        } else {
            failure.error
        })
    }
}
