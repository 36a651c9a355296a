//! Signed delivery of events. First attempts are in order unless [`Disorder`] says otherwise, and
//! each event is retried independently of the others.

use std::sync::Weak;
use std::time::Duration;

use aws_lc_rs::hmac;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::mpsc::UnboundedReceiver;

use super::Core;
use crate::server::lock;
use crate::server::now;

const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// The progress of the delivery of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The event's id (`evt_…`).
    pub event_id: String,
    /// The number of attempts so far.
    pub attempts: u32,
    /// The status of the last attempt's response. `None` before the first attempt, and when there
    /// was no response.
    pub last_status: Option<u16>,
}

/// How deliveries go wrong. The same seed and events give the same sequence of faults.
#[derive(Clone, Debug)]
pub struct Disorder {
    /// Seed of the pseudo-random sequence of faults.
    pub seed: u64,
    /// How many of 100 events are delivered twice.
    pub duplicate_percent: u8,
    /// The longest delay of a delivery.
    pub max_delay: Duration,
    /// Whether deliveries run independently of each other. Otherwise they keep their order.
    pub shuffle: bool,
}

impl Disorder {
    /// Returns a number less than `end`, from Knuth's MMIX linear congruential generator.
    fn roll(&mut self, end: u32) -> u32 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.seed >> 33) % u64::from(end)).expect("less than a u32")
    }
}

/// One delivery to make.
pub(super) struct Posting {
    event_id: String,
    delay: Duration,
    /// Whether it runs independently of the other deliveries.
    independent: bool,
}

impl Posting {
    /// Returns the deliveries to make for an event: one, or two if it is duplicated.
    pub(super) fn plan(event_id: &str, disorder: Option<&mut Disorder>) -> Vec<Self> {
        let event_id = event_id.to_owned();
        let Some(disorder) = disorder else {
            return vec![Self { event_id, delay: Duration::ZERO, independent: false }];
        };
        let times = if disorder.roll(100) < u32::from(disorder.duplicate_percent) { 2 } else { 1 };
        let posting = |_| Self {
            event_id: event_id.clone(),
            delay: disorder.max_delay * disorder.roll(1_000) / 1_000,
            independent: disorder.shuffle,
        };
        (0..times).map(posting).collect()
    }
}

impl Delivery {
    pub(super) fn new(event_id: &str) -> Self {
        Self { event_id: event_id.to_owned(), attempts: 0, last_status: None }
    }

    pub(super) fn is_received(&self) -> bool {
        self.last_status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// Delivers until the simulator is dropped.
pub(super) async fn run(core: Weak<Core>, mut postings: UnboundedReceiver<Posting>) {
    let mut client = None;
    while let Some(Posting { event_id, delay, independent }) = postings.recv().await {
        // Created on demand: most instances in tests never deliver, and a client takes
        // milliseconds.
        let client = client.get_or_insert_with(http_client);
        if independent {
            tokio::spawn(deliver_with_retries(core.clone(), client.clone(), event_id, delay));
            continue;
        }
        tokio::time::sleep(delay).await;
        if !attempt(&core, client, &event_id).await {
            tokio::spawn(deliver_with_retries(core.clone(), client.clone(), event_id, FIRST_DELAY));
        }
    }
}

/// Posts an event after a delay, and retries until it is received.
async fn deliver_with_retries(
    core: Weak<Core>,
    client: reqwest::Client,
    event_id: String,
    delay: Duration,
) {
    tokio::time::sleep(delay).await;
    let mut delay = FIRST_DELAY;
    while !attempt(&core, &client, &event_id).await {
        tokio::time::sleep(delay).await;
        delay = LONGEST_DELAY.min(delay * 2);
    }
}

fn http_client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10));
    builder.build().expect("a plain HTTP client")
}

/// Posts an event once. Returns false if it must be retried.
async fn attempt(core: &Weak<Core>, client: &reqwest::Client, event_id: &str) -> bool {
    let Some((url, body, signature)) = prepare(core, event_id) else {
        return true;
    };
    let request = client.post(url).header(CONTENT_TYPE, "application/json; charset=utf-8");
    let answer = request.header("Stripe-Signature", signature).body(body).send().await;
    let status = answer.ok().map(|answer| answer.status());
    if let Some(core) = core.upgrade() {
        let mut state = lock(&core.state);
        if let Some(delivery) =
            state.deliveries.iter_mut().rfind(|delivery| delivery.event_id == event_id)
        {
            delivery.attempts += 1;
            delivery.last_status = status.map(|status| status.as_u16());
        }
    }
    status.is_some_and(|status| status.is_success())
}

/// Returns the URL, body and signature; `None` if the simulator or its webhook URL is gone.
fn prepare(core: &Weak<Core>, event_id: &str) -> Option<(String, String, String)> {
    let core = core.upgrade()?;
    let state = lock(&core.state);
    let url = state.webhook_url.clone()?;
    let body = state.find("event", event_id)?.to_string();
    // The real time even if the clock was set, because receivers compare it with theirs.
    let signature = sign(&core.webhook_secret, now().as_second(), &body);
    Some((url, body, signature))
}

/// Returns the `Stripe-Signature` header, as in Stripe's "Verify webhook signatures manually".
fn sign(secret: &str, timestamp: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{timestamp}.{body}").as_bytes());
    format!("t={timestamp},v1={}", hex::encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_hmac_sha256_over_time_and_body() {
        // printf '1700000000.{"id":"evt_1"}' | openssl dgst -sha256 -hmac whsec_test
        let known = "c89214b5b5da833daed6f0b8c5bb6bd58cea9022bd80ccc78230f3942d632925";
        assert_eq!(
            sign("whsec_test", 1_700_000_000, r#"{"id":"evt_1"}"#),
            format!("t=1700000000,v1={known}")
        );
    }
}
