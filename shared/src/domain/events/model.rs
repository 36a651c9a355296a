//! Stripe's event envelope, read leniently, what becomes of an event, and how operators see it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::kind::EventKind;
use crate::base::error::FieldFault;
use crate::base::fields::{DateTime, Note, Param, Text};
use crate::base::ids::{StripeCustomerId, StripeEventId, StripeSubscriptionId, TenantId};
use crate::base::paging::{Cursor, Limit, Offset};
use crate::outside::queue::Message;
use crate::outside::stripe;
use crate::{Error, Result, request, words};

/// What SQS takes with room for its own attributes: an event over it is queued without its object,
/// and read from Stripe later.
pub const QUEUE_LIMIT_BYTES: usize = 200 * 1024;

/// How many attempts may crash before the event is recorded as failed, so that its group goes on.
pub const MAX_CRASHED_ATTEMPTS: i32 = 5;

/// From which receive on a transient error is recorded as failed: more than a day of attempts, and
/// before the queue's own 150 would send the message to the dead-letter queue, which is
/// for what could not even be recorded.
pub const MAX_RECEIVES: u32 = 120;

/// How long a message rests after its nth receive failed: 1 minute, doubled each time, at most 15.
#[must_use]
pub fn redelivery_delay(receives: u32) -> Duration {
    Duration::from_mins(1 << receives.saturating_sub(1).min(4)).min(Duration::from_mins(15))
}

/// The most characters of a type. Stripe's have fewer than 100.
pub const TYPE_LENGTH: usize = 255;

/// The parts of an event that every API version has; what its object means is for its handler to
/// say.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Its id.
    pub id: StripeEventId,
    /// e.g. `checkout.session.completed`.
    pub event_type: String,
    /// What that type is about.
    pub kind: EventKind,
    /// When it happened at Stripe, UTC.
    pub created: Timestamp,
    /// Live or test mode.
    pub livemode: bool,
    /// In whose shape the object is.
    pub api_version: Option<String>,
    /// The connected account that it happened in; none of our own events.
    pub account: Option<String>,
    /// `data.object`, untouched; of a slim envelope only ids.
    pub object: Value,
    /// Whether the object was left out for its size.
    pub slim: bool,
}

#[derive(Deserialize)]
struct Raw {
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    created: i64,
    livemode: bool,
    api_version: Option<String>,
    account: Option<String>,
    data: RawData,
    #[serde(default)]
    pulse_slim: bool,
}

#[derive(Deserialize)]
struct RawData {
    object: Value,
}

impl Envelope {
    /// Reads an event, as Stripe or our own queue holds it.
    ///
    /// # Errors
    /// `Malformed` (`malformed_event`, `malformed_id`), naming the field; `thin_event` of one that
    /// Stripe sends without its object.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let malformed = |detail: String| Error::malformed("malformed_event", detail);
        let raw: Raw = serde_json::from_slice(body).map_err(|error| {
            if is_thin(body) {
                return Error::malformed("thin_event", THIN);
            }
            malformed(format!("the body is not a Stripe event: {error}"))
        })?;
        if !raw.data.object.is_object() {
            return Err(malformed(
                "the body is not a Stripe event: data.object is not an object".to_owned(),
            ));
        }
        Ok(Self {
            id: StripeEventId::parse(&raw.id)?,
            kind: EventKind::parse(&raw.event_type),
            event_type: cut(&raw.event_type).to_owned(),
            created: Timestamp::from_second(raw.created).map_err(|_| {
                malformed("the body is not a Stripe event: created is out of range".to_owned())
            })?,
            livemode: raw.livemode,
            api_version: raw.api_version.as_deref().map(cut).map(str::to_owned),
            account: raw.account.as_deref().map(cut).map(str::to_owned),
            object: raw.data.object,
            slim: raw.pulse_slim,
        })
    }

    /// The customer that it concerns: `object.customer`, an id or expanded, or the object itself.
    #[must_use]
    pub fn customer(&self) -> Option<StripeCustomerId> {
        let own = (self.object["object"] == "customer").then_some(&self.object);
        [
            Some(&self.object["customer"]),
            Some(&self.object["customer"]["id"]),
            own.map(|customer| &customer["id"]),
        ]
        .into_iter()
        .flatten()
        .find_map(|id| StripeCustomerId::parse(id.as_str()?).ok())
    }

    /// The Stripe subscription that it is about, in either payload generation: of an invoice it
    /// moved into `parent` with API 2025-03-31.
    ///
    /// # Errors
    /// `Malformed`; `Upstream` (`stripe_shape`) of an invoice that neither generation would make: a
    /// missing field is never "no subscription".
    pub fn subscription(&self) -> Result<Option<StripeSubscriptionId>> {
        if matches!(self.kind, EventKind::Invoice(_))
            && !self.slim
            && ["subscription", "parent"].iter().all(|field| self.object.get(*field).is_none())
        {
            return Err(stripe::unreadable(
                "the event's invoice has neither subscription nor parent",
            ));
        }
        let id = match self.kind {
            EventKind::Subscription => &self.object["id"],
            EventKind::Checkout(_)
            | EventKind::Invoice(_)
            | EventKind::Notice(_)
            | EventKind::Other => [
                &self.object["subscription"],
                &self.object["parent"]["subscription_details"]["subscription"],
            ]
            .into_iter()
            .find(|reference| !reference.is_null())
            .unwrap_or(&Value::Null),
        };
        id.as_str().or_else(|| id["id"].as_str()).map(StripeSubscriptionId::parse).transpose()
    }

    /// The id of its object.
    #[must_use]
    pub fn object_id(&self) -> Option<&str> {
        self.object["id"].as_str().map(cut)
    }

    /// Whether its type is no type of Stripe's, and was cut.
    #[must_use]
    pub fn is_overlong(&self) -> bool {
        self.event_type.chars().count() > TYPE_LENGTH
    }

    /// The event without what makes it large.
    fn slimmed(&self) -> Value {
        let object = json!({
            "id": self.object_id(), "object": self.object["object"].as_str().map(cut),
            "customer": self.customer().map(|id| id.to_string()),
            "subscription": self.subscription().ok().flatten().map(|id| id.to_string()),
            "charge": self.object["charge"].as_str().map(cut),
        });
        let mut slim = Self { object, ..self.clone() }.whole();
        slim["pulse_slim"] = json!(true);
        slim
    }

    fn whole(&self) -> Value {
        json!({
            "id": self.id.as_str(), "type": self.event_type, "created": self.created.as_second(),
            "livemode": self.livemode, "account": self.account,
            "api_version": self.api_version, "data": {"object": self.object},
        })
    }

    /// What goes on the queue for the event whose text is `body`.
    #[must_use]
    pub fn message(&self, body: &str) -> Message {
        let body = if body.len() <= QUEUE_LIMIT_BYTES {
            queueable(body)
        } else {
            queueable(&self.slimmed().to_string())
        };
        let group =
            self.customer().map_or_else(|| self.id.to_string(), |customer| customer.to_string());
        // SQS takes 128 characters for either; ids are shorter today, and a longer one is still its
        // own.
        Message { group: short(group), deduplication_id: short(self.id.to_string()), body }
    }

    /// The message of the event's nth replay: its own deduplication id, because the queue still
    /// remembers the event's.
    #[must_use]
    pub fn replay_message(&self, replay: i32) -> Message {
        let body = if self.slim { self.slimmed() } else { self.whole() };
        Message {
            deduplication_id: short(format!("{}:replay:{replay}", self.id)),
            ..self.message(&body.to_string())
        }
    }
}

/// What only describes an event, short enough for a row, its indexes and a message. One character
/// more than a type may have, which says that it was cut.
fn cut(text: &str) -> &str {
    text.char_indices().nth(TYPE_LENGTH + 1).map_or(text, |(end, _)| &text[..end])
}

const THIN: &str = "this is a thin event (v2.core.event), which has no object; this endpoint takes \
                    snapshot events: at Stripe, make an event destination with the payload style \
                    'snapshot' in its place, and backfill what came meanwhile";

fn is_thin(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Thin {
        object: String,
    }
    serde_json::from_slice::<Thin>(body).is_ok_and(|thin| thin.object == "v2.core.event")
}

/// The message that keeps a signed body which is no event, for a person to read and for a redrive
/// after a release that can read it. What SQS does not take is replaced, and what is over its limit
/// is left out.
#[must_use]
pub fn unreadable_message(body: &[u8]) -> Message {
    let text = String::from_utf8_lossy(&body[..body.len().min(QUEUE_LIMIT_BYTES)]);
    let text: String = text
        .chars()
        .map(|c| match c {
            '\t' | '\n' | '\r' => c,
            c if c.is_ascii_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => '\u{FFFD}',
            c => c,
        })
        .collect();
    // SQS takes no empty message.
    let text = if text.is_empty() { "(empty)".to_owned() } else { text };
    let hash = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body));
    Message { group: format!("unreadable:{hash}"), deduplication_id: hash, body: text }
}

/// SQS refuses two characters that JSON allows (U+FFFE, U+FFFF); inside a JSON text they can only
/// stand in strings, where their escapes mean the same.
fn queueable(body: &str) -> String {
    body.replace('\u{FFFE}', "\\ufffe").replace('\u{FFFF}', "\\uffff")
}

fn short(mut id: String) -> String {
    if id.len() > 128 {
        id = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, id.as_bytes()));
    }
    id
}

words! {
    /// What became of an event (docs/events.md, "Outcomes").
    #[derive(Default)]
    pub enum EventStatus {
        /// Its effect is committed, by this event or another of the same fact.
        #[default]
        Applied = "applied",
        /// Not ours, or without effect.
        Ignored = "ignored",
        /// Its cause has not appeared yet.
        Waiting = "waiting",
        /// A permanent error: an operator mends its cause and replays the event.
        Failed = "failed",
        /// An operator said that it needs nothing.
        Dismissed = "dismissed",
    }
}

impl EventStatus {
    /// Whether a redelivery has nothing left to do.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Applied | Self::Ignored | Self::Dismissed => true,
            Self::Waiting | Self::Failed => false,
        }
    }
}

/// An event as it is recorded, and how its tries went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of the same names")]
pub struct EventRow {
    pub event_id: StripeEventId,
    pub event_type: String,
    pub status: EventStatus,
    /// Why, for an operator.
    pub status_reason: Option<String>,
    /// Stripe's customer.
    pub customer_id: Option<StripeCustomerId>,
    /// Whose it turned out to be.
    pub tenant_id: Option<TenantId>,
    pub stripe_subscription_id: Option<StripeSubscriptionId>,
    /// What it tells of, such as `cs_…`.
    pub object_id: Option<String>,
    /// In whose shape its object is.
    pub api_version: Option<String>,
    pub livemode: bool,
    /// Attempts that crashed, since the last one that ended.
    pub lost_tries: i32,
    /// Attempts that failed with a transient error.
    pub transient_errors: i32,
    /// Of the last of them.
    pub last_error: Option<String>,
    /// How often it was replayed.
    pub replays: i32,
    /// When it happened, by Stripe's clock.
    pub created_at: Timestamp,
    /// When it was first recorded here.
    pub recorded_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The same with what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct EventDetail {
    /// All but its object.
    #[serde(flatten)]
    pub event: EventRow,
    /// Its object, as it was received: a hint, and perhaps old. None of one over 200 KiB, which is
    /// read from Stripe, nor of one that has been done for 90 days.
    #[schema(value_type = Option<Object>)]
    pub payload: Option<Value>,
}

request! {
    /// Which events.
    pub struct EventFilter {
        status: Option<EventStatus> = None,
        /// Such as `invoice.paid`.
        event_type: Option<Text<1, 100>> = None,
        /// Stripe's customer.
        customer_id: Option<StripeCustomerId> = None,
        tenant_id: Option<TenantId> = None,
        stripe_subscription_id: Option<StripeSubscriptionId> = None,
        /// Last recorded at this time or later.
        from: Option<DateTime> = None,
        /// Last recorded before this time.
        to: Option<DateTime> = None,
        limit: Option<Param<Limit>> = None,
        offset: Option<Param<Offset>> = None,
        cursor: Option<Cursor> = None,
    }

    /// How an event ends that needs nothing.
    pub struct EventDismissal {
        /// Why it needs nothing.
        note: Note,
    }

    /// A Stripe subscription to adopt.
    pub struct Adoption {
        /// Whose it becomes.
        tenant_id: TenantId,
        /// Its id at Stripe.
        stripe_subscription_id: StripeSubscriptionId,
    }

    /// Which events to ask Stripe for.
    pub struct Backfill {
        /// Those that happened from this instant on, by Stripe's clock: at most 30 days ago.
        from: DateTime,
        /// And before this one.
        to: DateTime,
        /// The `next_cursor` of the call before, with the same range.
        cursor: Option<StripeEventId> = None,
    }
}

/// How long Stripe lists an event.
const STRIPE_KEEPS: SignedDuration = SignedDuration::from_hours(30 * 24);

impl Backfill {
    /// Whether it can be asked for at `now`.
    ///
    /// # Errors
    /// `Invalid`, naming the fields.
    pub fn check(&self, now: Timestamp) -> Result<()> {
        let mut faults = Vec::new();
        let mut fault = |field: &str, message: &str| {
            faults.push(FieldFault { field: field.to_owned(), message: message.to_owned() });
        };
        // A call that goes on was checked when it began: a range of 30 days must not end because
        // the minutes pass.
        if self.cursor.is_none() && self.from.get() < now - STRIPE_KEEPS {
            fault("from", "must be at most 30 days ago: Stripe does not list older events");
        }
        if self.to <= self.from {
            fault("to", "must be after from");
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
    }
}

/// What one call of a backfill came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Backfilled {
    /// Events that Stripe listed to this call.
    pub received: usize,
    /// Those put on the queue.
    pub enqueued: usize,
    /// Those that were recorded already.
    pub already_known: usize,
    /// For `cursor` of the next call; none at the end.
    pub next_cursor: Option<StripeEventId>,
    /// Whether the range is at its end.
    pub done: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(object: &Value) -> Value {
        json!({"id": "evt_1", "object": "event", "type": "checkout.session.completed",
            "created": 1_767_225_600, "livemode": false, "api_version": "2026-09-30.endive",
            "data": {"object": object}})
    }

    fn parse(value: &Value) -> Result<Envelope> {
        Envelope::parse(value.to_string().as_bytes())
    }

    #[test]
    fn the_group_is_the_customer_wherever_it_stands() {
        for (object, group) in [
            (json!({"object": "checkout.session", "id": "cs_1", "customer": "cus_1"}), "cus_1"),
            (
                json!({"object": "checkout.session",
                    "customer": {"id": "cus_2", "object": "customer"}}),
                "cus_2",
            ),
            (json!({"object": "customer", "id": "cus_3"}), "cus_3"),
            (json!({"object": "checkout.session", "id": "cs_1", "customer": null}), "evt_1"),
            (json!({"object": "charge", "id": "ch_1", "customer": "not an id"}), "evt_1"),
        ] {
            let event = event(&object);
            let message = parse(&event).expect("an event").message(&event.to_string());
            assert_eq!(
                (message.group.as_str(), message.deduplication_id.as_str()),
                (group, "evt_1"),
                "{object}"
            );
            assert_eq!(message.body, event.to_string());
        }
    }

    #[test]
    fn a_large_event_is_queued_without_its_object_and_keeps_its_group() {
        let event = event(&json!({"object": "invoice", "id": "in_1", "customer": "cus_1",
                "lines": "x".repeat(QUEUE_LIMIT_BYTES)}));
        let message = parse(&event).expect("an event").message(&event.to_string());
        assert!(message.body.len() < 1000);
        let slim = Envelope::parse(message.body.as_bytes()).expect("readable");
        assert!(slim.slim);
        assert_eq!(
            (slim.id.as_str(), slim.object_id(), message.group.as_str()),
            ("evt_1", Some("in_1"), "cus_1")
        );
    }

    #[test]
    fn a_message_rests_longer_each_time_up_to_a_quarter_of_an_hour_and_for_more_than_a_day() {
        let minutes: Vec<u64> = [0, 1, 2, 3, 4, 5, 6, 1000]
            .into_iter()
            .map(|receives| redelivery_delay(receives).as_secs() / 60)
            .collect();
        assert_eq!(minutes, [1, 1, 2, 4, 8, 15, 15, 15]);
        let total: Duration = (1..MAX_RECEIVES).map(redelivery_delay).sum();
        assert!(total > Duration::from_hours(24), "{total:?}");
    }

    #[test]
    fn each_replay_has_a_deduplication_id_of_its_own() {
        let event =
            event(&json!({"object": "checkout.session", "id": "cs_1", "customer": "cus_1"}));
        let envelope = parse(&event).expect("an event");
        let (first, second) = (envelope.replay_message(1), envelope.replay_message(2));
        assert_eq!(
            (first.deduplication_id.as_str(), second.deduplication_id.as_str()),
            ("evt_1:replay:1", "evt_1:replay:2")
        );
        assert_eq!(
            (
                first.group.as_str(),
                Envelope::parse(first.body.as_bytes()).expect("an event").object
            ),
            ("cus_1", event["data"]["object"].clone())
        );
    }

    #[test]
    fn characters_that_sqs_refuses_are_escaped_and_mean_the_same() {
        let event = event(&json!({"object": "checkout.session", "name": "a\u{FFFF}b\u{FFFE}c✓"}));
        let body = parse(&event).expect("an event").message(&event.to_string()).body;
        assert!(!body.contains(['\u{FFFE}', '\u{FFFF}']));
        assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), event);
    }

    #[test]
    fn a_body_of_another_kind_is_refused_with_the_field_named() {
        let mut no_type = event(&json!({}));
        no_type.as_object_mut().expect("an object").remove("type");
        let mut bad_id = event(&json!({}));
        bad_id["id"] = json!("evt_1/../x");
        let mut bad_object = event(&json!({}));
        bad_object["data"]["object"] = json!("cs_1");
        for (body, named) in [
            (no_type.to_string(), "type"),
            (bad_id.to_string(), "evt_1/../x"),
            (bad_object.to_string(), "data.object"),
            ("[]".to_owned(), "event"),
            ("null".to_owned(), "event"),
            ("not json".to_owned(), "event"),
        ] {
            let error = Envelope::parse(body.as_bytes()).expect_err("refused");
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
