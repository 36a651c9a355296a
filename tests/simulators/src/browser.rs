//! What the customer does with a mail program and a browser: reads the mail, follows its link, sets
//! a password.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::Url;
use reqwest::header::COOKIE;
use reqwest::header::LOCATION;
use reqwest::header::SET_COOKIE;
use reqwest::redirect::Policy;

/// The newest mail to this address: its head, and its decoded text.
///
/// # Errors
/// When the folder cannot be read.
pub fn find_mail(folder: &Path, to: &str) -> Result<Option<(String, String)>> {
    let mut found = None;
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let entry = entry?;
        let raw = String::from_utf8_lossy(&std::fs::read(entry.path())?).replace("\r\n", "\n");
        let (head, _) = raw.split_once("\n\n").unwrap_or((&raw, ""));
        let addressed = head.lines().any(|line| {
            line.strip_prefix("To:")
                .is_some_and(|rest| rest.to_lowercase().contains(&to.to_lowercase()))
        });
        let written = entry.metadata()?.modified()?;
        if addressed && found.as_ref().is_none_or(|(other, _)| *other < written) {
            found = Some((written, (head.to_owned(), decode_part(&raw))));
        }
    }
    Ok(found.map(|(_, mail)| mail))
}

/// Text of a MIME part, its own parts one after the other (RFC 2045, 2046).
fn decode_part(part: &str) -> String {
    let (head, body) = part.split_once("\n\n").unwrap_or(("", part));
    let head = head.replace("\n\t", " ").replace("\n ", " ");
    let header = |name: &str| {
        head.lines().find_map(|line| {
            line.split_once(':')
                .filter(|(n, _)| n.trim().eq_ignore_ascii_case(name))
                .map(|(_, v)| v.trim())
        })
    };
    if let Some((_, rest)) = header("Content-Type").and_then(|kind| kind.split_once("boundary=")) {
        let boundary = format!(
            "--{}",
            rest.trim_start_matches('"').split(['"', ';']).next().unwrap_or_default()
        );
        return body
            .split(&boundary)
            .skip(1)
            .filter(|part| !part.starts_with("--"))
            .map(|part| decode_part(part.trim_start_matches('\n')))
            .collect();
    }
    match header("Content-Transfer-Encoding").map(str::to_lowercase).as_deref() {
        Some("quoted-printable") => decode_quoted(body),
        Some("base64") => String::from_utf8_lossy(&decode_base64(body)).into_owned(),
        _ => body.to_owned(),
    }
}

fn decode_quoted(text: &str) -> String {
    let joined = text.replace("=\n", "");
    let mut bytes = Vec::new();
    let mut rest = joined.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = if first == b'=' {
            after
                .get(..2)
                .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok())
        } else {
            None
        };
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Decodes base64 of either alphabet; skips characters of neither.
#[must_use]
pub fn decode_base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0_u32);
    for symbol in text.bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => continue,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).unwrap_or_default());
        }
    }
    bytes
}

/// The first link of a text that begins with `prefix`.
#[must_use]
pub fn find_link(text: &str, prefix: &str) -> Option<String> {
    let found = &text[text.find(prefix)?..];
    let end = found
        .find(|c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>'))
        .unwrap_or(found.len());
    Some(found[..end].replace("&amp;", "&"))
}

/// A browser with the cookies of one host.
pub struct Browser {
    http: reqwest::Client,
    cookies: Vec<(String, String)>,
}

/// A page and its URL.
struct Page {
    url: Url,
    text: String,
}

impl Browser {
    /// A browser without a history.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn new() -> Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self { http, cookies: Vec::new() })
    }

    /// Follows the link of Keycloak's mail, fills in the form for a new password, and returns the
    /// last page.
    ///
    /// # Errors
    /// When a page is not as expected.
    pub async fn set_password(&mut self, link: &str, password: &str) -> Result<String> {
        let mut page = self.open(Url::parse(link)?).await?;
        if attribute(&page.text, "action=\"", "").is_none() {
            // First "Click here to proceed".
            let proceed = attribute(&page.text, "href=\"", "action-token")
                .context("the mail's page has neither a form nor a link to proceed")?;
            page = self.open(page.url.join(&proceed)?).await?;
        }
        let action = attribute(&page.text, "action=\"", "")
            .with_context(|| format!("no form at {}", page.url))?;
        let action = page.url.join(&action)?;
        let form = [("password-new", password), ("password-confirm", password)];
        let answer = self.send(self.http.post(action.clone()).form(&form)).await?;
        Ok(self.follow(action, answer).await?.text)
    }

    async fn open(&mut self, url: Url) -> Result<Page> {
        let answer = self.send(self.http.get(url.clone())).await?;
        self.follow(url, answer).await
    }

    async fn follow(&mut self, mut url: Url, mut answer: Response) -> Result<Page> {
        for _ in 0..10 {
            let status = answer.status();
            if !status.is_redirection() {
                let text = answer.text().await?;
                if !status.is_success() {
                    bail!("{url} answered {status}");
                }
                return Ok(Page { url, text });
            }
            let location =
                answer.headers().get(LOCATION).context("a redirection without a location")?;
            url = url.join(location.to_str()?)?;
            answer = self.send(self.http.get(url.clone())).await?;
        }
        bail!("{url} redirects for ever")
    }

    async fn send(&mut self, request: RequestBuilder) -> Result<Response> {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request =
            if cookies.is_empty() { request } else { request.header(COOKIE, cookies.join("; ")) };
        let answer = request.send().await?;
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let Some((name, rest)) = cookie.to_str()?.split_once('=') else { continue };
            let value = rest.split(';').next().unwrap_or_default();
            self.cookies.retain(|(held, _)| held != name);
            if !value.is_empty() && !rest.to_lowercase().contains("max-age=0") {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        Ok(answer)
    }
}

/// The unescaped value of the first attribute that starts with `begin` and contains `part`.
fn attribute(html: &str, begin: &str, part: &str) -> Option<String> {
    let values =
        html.split(begin).skip(1).filter_map(|rest| rest.split_once('"').map(|(value, _)| value));
    values.map(|value| value.replace("&amp;", "&")).find(|value| value.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_decoded_part_by_part() {
        let mail = "To: jane@acme.example\nContent-Type: \
                    multipart/alternative;\n\tboundary=\"b1\"\n\n\
                    --b1\nContent-Transfer-Encoding: \
                    quoted-printable\n\nhttp://host/a?key=3D1=\n23 \u{fc}\n\
                    --b1\nContent-Transfer-Encoding: base64\n\nPGEgaHJlZj0i\nPg==\n--b1--\n";
        let text = decode_part(mail);
        assert_eq!(find_link(&text, "http://host/").as_deref(), Some("http://host/a?key=123"));
        assert!(text.contains("<a href=\">"), "{text}");
    }

    #[test]
    fn entities_of_a_form_are_decoded_as_in_a_browser() {
        let html =
            "<a href=\"/other\">x</a><form action=\"http://h/p?a=1&amp;b=2\" method=\"post\">";
        assert_eq!(attribute(html, "action=\"", "").as_deref(), Some("http://h/p?a=1&b=2"));
        assert_eq!(attribute(html, "href=\"", "nothing"), None);
    }
}
