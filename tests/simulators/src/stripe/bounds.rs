//! The bounds that Stripe documents for parameters, and how it refuses what is beyond them.

use serde_json::Value;

use super::state::ApiError;
use super::state::Result;

/// How many items a subscription has at most. A session in `subscription` mode has at most as many
/// one-time prices beside them.
pub(super) const ITEMS: usize = 20;

/// How many lines a session in `payment` mode has at most.
pub(super) const LINES: usize = 100;

/// How many types a list of events is filtered by at most.
pub(super) const TYPES: usize = 20;

/// The most that one payment may be, in US cents ("Minimum and maximum charge amounts").
const MAXIMUM_CHARGE: i64 = 99_999_999;

/// How long an `Idempotency-Key` is at most ("Idempotent requests").
const IDEMPOTENCY_KEY: usize = 255;

/// How many entries metadata has at most, and how long a key and a value are ("Metadata").
const ENTRIES: usize = 50;
const ENTRY_KEY: usize = 40;
const ENTRY_VALUE: usize = 500;

/// Texts with a bound of their own: the object that is written, the parameter, and how long it is
/// at most.
const TEXTS: [(&str, &str, usize); 7] = [
    ("billing_portal.configuration", "headline", 60),
    ("billing_portal.configuration", "name", 256),
    ("checkout.session", "client_reference_id", 200),
    ("customer", "email", 512),
    ("customer", "name", 256),
    ("customer", "phone", 20),
    ("price", "lookup_key", 200),
];

/// How long every other text is at most.
const TEXT: usize = 5_000;

/// The parameters with an address that a browser is sent to.
const URLS: [&str; 4] = ["cancel_url", "default_return_url", "return_url", "success_url"];

/// Checks the parameters of a request that writes an object of this kind.
pub(super) fn check(kind: &str, params: &Value) -> Result<()> {
    let mut params = params.as_object().into_iter().flatten();
    params.try_for_each(|(name, value)| check_param(kind, name, value))
}

/// Checks a parameter by its whole name, such as `line_items[0][price]`.
fn check_param(kind: &str, name: &str, value: &Value) -> Result<()> {
    let last = name.rsplit('[').next().unwrap_or_default().trim_end_matches(']');
    if last == "metadata" {
        return check_metadata(name, value);
    }
    let mut inner = value.as_object().into_iter().flatten();
    inner.try_for_each(|(key, value)| check_param(kind, &format!("{name}[{key}]"), value))?;
    let Some(text) = value.as_str() else { return Ok(()) };
    let own = TEXTS.iter().find(|(of, param, _)| (*of, *param) == (kind, last));
    let most = own.map_or(TEXT, |(_, _, most)| *most);
    if text.chars().count() > most {
        let message = format!("Invalid string: {}; must be at most {most} characters", short(text));
        return Err(ApiError::invalid(message).param(name));
    }
    if URLS.contains(&last) && !text.is_empty() && !is_url(text) {
        return Err(ApiError::invalid("Not a valid URL").code("url_invalid", name));
    }
    if ["amount", "unit_amount"].contains(&last) {
        let Ok(amount) = text.parse() else {
            let message = format!("Invalid integer: {text}");
            return Err(ApiError::invalid(message).code("parameter_invalid_integer", name));
        };
        check_amount(amount).map_err(|error| error.param(name))?;
    }
    Ok(())
}

/// Refuses more than one payment may be.
pub(super) fn check_amount(cents: i64) -> Result<()> {
    if cents <= MAXIMUM_CHARGE {
        return Ok(());
    }
    let error = ApiError::invalid("Amount must be no more than $999,999.99");
    Err(ApiError { code: Some("amount_too_large"), ..error })
}

fn check_metadata(name: &str, value: &Value) -> Result<()> {
    let refused = |message: String| Err(ApiError::invalid(message).param(name));
    let Some(entries) = value.as_object() else {
        // An empty text unsets all keys.
        let unset = value == "" || value.is_null();
        return if unset { Ok(()) } else { refused("Invalid hash".to_owned()) };
    };
    for (key, value) in entries {
        let Some(value) = value.as_str() else {
            let message = "Metadata values must be strings, but for key '";
            return refused(format!("{message}{key}' you passed in a hash instead."));
        };
        let (key_length, length) = (key.chars().count(), value.chars().count());
        if key_length > ENTRY_KEY {
            return refused(format!(
                "Metadata keys can have up to {ENTRY_KEY} characters, but you passed in a key that \
                 is {key_length} characters. Invalid key: {key}"
            ));
        }
        if length > ENTRY_VALUE {
            return refused(format!(
                "Metadata values can have up to {ENTRY_VALUE} characters, but you passed in a \
                 value that is {length} characters. Invalid value: {}",
                short(value)
            ));
        }
    }
    check_entries(entries.values().filter(|value| **value != "").count())
        .map_err(|error| error.param(name))
}

/// Refuses more entries than metadata has.
pub(super) fn check_entries(entries: usize) -> Result<()> {
    if entries <= ENTRIES {
        return Ok(());
    }
    let message = format!("Metadata can have up to {ENTRIES} keys, but you've set {entries}.");
    Err(ApiError::invalid(message).param("metadata"))
}

pub(super) fn check_key(key: &str) -> Result<()> {
    let length = key.chars().count();
    if length <= IDEMPOTENCY_KEY {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "Idempotency keys can have up to {IDEMPOTENCY_KEY} characters, but you passed in one that \
         is {length} characters."
    )))
}

/// Refuses a list of more than `most` entries.
pub(super) fn check_count(count: usize, most: usize, param: &str) -> Result<()> {
    if count <= most {
        return Ok(());
    }
    let message = format!("Array {param} exceeded maximum {most} allowed elements.");
    Err(ApiError::invalid(message).param(param))
}

/// Returns whether a text is an absolute address of the web.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        !rest.starts_with(['/', '?', '#', ':']) && !rest.is_empty() && !rest.contains(' ')
    })
}

/// Returns the beginning of a long text, as Stripe's messages have it.
fn short(text: &str) -> String {
    if text.chars().count() <= 100 {
        return text.to_owned();
    }
    text.chars().take(97).chain("...".chars()).collect()
}
