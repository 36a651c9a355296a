//! Stripe's webhook signature (Stripe's "Verify webhook signatures manually"): HMAC-SHA256 over
//! `{t}.{raw body}`.

use aws_lc_rs::hmac;

use crate::{Error, Result};

/// How far a signature's time may be from ours, in seconds, either way.
const TOLERANCE_SECONDS: i64 = 300;

/// Checks the `Stripe-Signature` header over the raw body against every secret in force, in
/// constant time for each.
///
/// # Errors
/// `Malformed`: `signature_malformed`, `signature_stale` or `signature_invalid`.
pub fn verify(header: &str, body: &[u8], secrets: &[String], now_seconds: i64) -> Result<()> {
    let refuse = |code, detail: &str| Err(Error::malformed(code, detail));
    let mut timestamp = None;
    let mut signatures = Vec::new();
    for (name, value) in header.split(',').filter_map(|part| part.trim().split_once('=')) {
        match name {
            "t" => timestamp = Some(value),
            "v1" => signatures.extend(hex::decode(value)),
            // v0 and whatever comes are not ours to read.
            _ => {}
        }
    }
    let (Some(timestamp), false) = (timestamp, signatures.is_empty()) else {
        return refuse(
            "signature_malformed",
            "Stripe-Signature must hold a time (t) and a signature (v1)",
        );
    };
    let Ok(seconds) = timestamp.parse::<i64>() else {
        return refuse("signature_malformed", "Stripe-Signature's time is not a number of seconds");
    };
    let matches = |secret: &String| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signed = [timestamp.as_bytes(), b".", body].concat();
        signatures.iter().any(|signature| hmac::verify(&key, &signed, signature).is_ok())
    };
    // An empty secret would accept anybody's signature, wherever the list came from.
    if !secrets.iter().filter(|secret| !secret.is_empty()).any(matches) {
        return refuse("signature_invalid", "Stripe-Signature does not match the body");
    }
    if seconds.abs_diff(now_seconds) > TOLERANCE_SECONDS.unsigned_abs() {
        return refuse(
            "signature_stale",
            "Stripe-Signature's time is more than 300 seconds from now",
        );
    }
    Ok(())
}

/// Signs a body as Stripe does, for the simulator and the developer's commands.
#[must_use]
pub fn sign(secret: &str, timestamp_seconds: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signed = [timestamp_seconds.to_string().as_bytes(), b".", body].concat();
    format!("t={timestamp_seconds},v1={}", hex::encode(hmac::sign(&key, &signed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_225_600;
    const BODY: &[u8] = "{\"name\":\"Ünïcode ✓\"}".as_bytes();

    fn code(header: &str, body: &[u8], secrets: &[&str]) -> Option<&'static str> {
        let secrets: Vec<String> = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        verify(header, body, &secrets, NOW).err().map(|error| error.code())
    }

    #[test]
    fn known_answer() {
        // By openssl: printf '1767225600.{}' | openssl dgst -sha256 -hmac whsec_test
        assert_eq!(
            sign("whsec_test", NOW, b"{}"),
            format!("t={NOW},v1=4a942ef9477fb7b15b98664cf7ff2c2543984c1fa6bdf3520b48dcb25bcd1fe4")
        );
    }

    #[test]
    fn a_signature_is_good_for_300_seconds_either_way() {
        for (t, expected) in [
            (NOW, None),
            (NOW - 300, None),
            (NOW + 300, None),
            (NOW - 301, Some("signature_stale")),
            (NOW + 301, Some("signature_stale")),
        ] {
            assert_eq!(code(&sign("s", t, BODY), BODY, &["s"]), expected, "{}", t - NOW);
        }
    }

    #[test]
    fn every_configured_secret_counts_and_an_empty_one_never() {
        assert_eq!(code(&sign("old", NOW, BODY), BODY, &["new", "old"]), None);
        assert_eq!(code(&sign("old", NOW, BODY), BODY, &["new"]), Some("signature_invalid"));
        assert_eq!(code(&sign("", NOW, BODY), BODY, &["", "new"]), Some("signature_invalid"));
        assert_eq!(code(&sign("", NOW, BODY), BODY, &[]), Some("signature_invalid"));
    }

    #[test]
    fn header_parts_come_in_any_order_and_any_v1_may_match() {
        let good = sign("s", NOW, BODY);
        let (t, v1) = good.split_once(',').expect("two parts");
        let other = "v1=00ff";
        for header in [
            format!("{v1},{t}"),
            format!("{t},{other},{v1}"),
            format!("{other}, {v1} ,{t},v0=1"),
            format!("{t},v1=nothex,{v1}"),
        ] {
            assert_eq!(code(&header, BODY, &["s"]), None, "{header}");
        }
        for header in ["", "t=1", v1, t, "t=x,v1=00", "nonsense", "t=,v1=,"] {
            assert!(code(header, BODY, &["s"]).is_some(), "{header}");
        }
    }

    #[test]
    fn the_raw_bytes_are_signed() {
        let header = sign("s", NOW, BODY);
        assert_eq!(code(&header, &[BODY, b" "].concat(), &["s"]), Some("signature_invalid"));
        assert_eq!(
            code(&header, br#"{"name":"\u00dcn\u00efcode \u2713"}"#, &["s"]),
            Some("signature_invalid")
        );
    }
}
