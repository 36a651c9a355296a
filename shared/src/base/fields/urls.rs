//! Addresses that Stripe sends a payer back to.

use axum::http::HeaderValue;

use super::Text;
use crate::base::error::FieldFault;
use crate::{Error, Result};

/// An address to come back to.
pub type ReturnUrl = Text<1, 2000>;

/// Refuses addresses that Stripe would send a payer to and that are not on one of the origins:
/// scheme, host and port, to the letter.
///
/// # Errors
/// `Invalid`, naming each.
pub fn check_urls(origins: &[HeaderValue], urls: &[(&str, &ReturnUrl)]) -> Result<()> {
    let refused = urls.iter().filter(|(_, url)| {
        !origins
            .iter()
            .filter_map(|origin| origin.to_str().ok())
            .any(|origin| is_on(origin, url.as_str()))
    });
    let message = "must be a whole URL on one of the origins whose pages may call";
    let faults: Vec<_> = refused
        .map(|(field, _)| FieldFault { field: (*field).to_owned(), message: message.to_owned() })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
}

/// By the letters, and by what a browser makes of them: it drops line breaks and reads `\` as `/`,
/// so that neither may be there.
pub(crate) fn is_on(origin: &str, url: &str) -> bool {
    let rest = url
        .strip_prefix(origin)
        .filter(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
    let plain = !url.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    rest.is_some()
        && plain
        && reqwest::Url::parse(url)
            .is_ok_and(|parsed| parsed.origin().ascii_serialization() == origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_on_an_origin_only_to_the_letter() {
        for url in ["", "/", "/billing?s={CHECKOUT_SESSION_ID}", "?a=b", "#/billing", "//path"] {
            assert!(is_on("https://app.example", &format!("https://app.example{url}")), "{url}");
        }
        assert!(is_on("http://localhost:3000", "http://localhost:3000/x"));
        for url in [
            "https://evil.example/",
            "https://app.example@evil.example/",
            "https://app.example:x@evil.example/",
            "https://user@app.example/",
            "https://app.example.evil.example/",
            "https://app.example:8443/",
            "https://app.example:443/",
            "http://app.example/",
            "//app.example/",
            "/billing",
            "javascript:alert(1)",
            "data:text/html,x",
            "https:app.example/",
            "https:///app.example/",
            "https://app.example\\@evil.example/",
            "https://app.example/\\evil.example",
            "https://app.example/\nx",
            "https://app.example/\t",
            " https://app.example/",
            "HTTPS://app.example/",
            "https://APP.example/",
            "https://app.examplé/",
            "",
        ] {
            assert!(!is_on("https://app.example", url), "{url}");
        }
        assert!(!is_on("http://localhost:3000", "https://localhost:3000/"));
        assert!(!is_on("http://localhost:3000", "http://localhost:30001/"));
    }
}
