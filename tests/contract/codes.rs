//! The codes of problems: the document has every one that the code refuses with, and no other.

use std::collections::BTreeSet;

use regex::Regex;
use shared::base::codes::CODES;

/// Codes that no answer of the API has: of events and their errors, of Stripe's own route, of what
/// another code stands for where it is answered.
const INSIDE: &[&str] = &[
    "breaker_open",
    "consumer_dies",
    "email_failed",
    "malformed_cursor",
    "malformed_event",
    "malformed_id",
    "malformed_name",
    "malformed_percentage",
    "order_amount_differs",
    "order_of_another_checkout",
    "order_of_another_tenant",
    "overlong_event_type",
    "signature_invalid",
    "signature_malformed",
    "signature_stale",
    "stripe_key_spent",
    "stripe_session_too_short",
    "stripe_shape",
    "thin_event",
    "unknown_order",
    "unknown_parent",
    "unknown_tenant",
];

/// Codes that are written elsewhere than at a constructor of errors.
const ELSEWHERE: [&str; 1] = ["request_in_progress"];

#[test]
fn the_list_of_codes_is_what_the_code_refuses_with() {
    let constructor = Regex::new(concat!(
        r#"(?:Error::(?:malformed|conflict|not_found|exceeded|unfit|unusable)|forbidden|refuse)\("#,
        r#"\s*(?:Service::\w+,\s*)?"([a-z_]+)""#,
        r#"|(?:Error::refusal\(\s*[\w:]+,|Problem::new\(\s*[\w:.()]+,)\s*"([a-z_]+)""#,
        r#"|const [A-Z_]+: &str = "(stripe_[a-z_]+|upstream|email_failed)""#,
    ))
    .expect("a pattern");
    let mut written = BTreeSet::from(ELSEWHERE.map(str::to_owned));
    for path in ["shared/src", "functions"].into_iter().flat_map(tests::sources) {
        let text = std::fs::read_to_string(&path).expect("a source");
        let found = constructor.captures_iter(&text);
        let codes = found.filter_map(|found| (1..=3).find_map(|group| found.get(group)));
        written.extend(codes.map(|code| code.as_str().to_owned()));
    }
    let known: BTreeSet<String> =
        CODES.iter().chain(INSIDE).map(|code| (*code).to_owned()).collect();
    assert_eq!(written, known, "shared/src/base/codes.rs against the code");
    assert!(CODES.is_sorted(), "by the alphabet");
}
