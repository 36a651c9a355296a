//! Versions of what people configure: `ETag` and `If-Match` (docs/api.md, "Versions").

use super::error::Refusal;
use crate::{Error, Result};

/// What has a version that configuration writes bump.
pub trait Versioned {
    /// The number in its `ETag`.
    fn version(&self) -> i64;
}

/// The versions of which a write may replace one; none given: any (RFC 9110, section 13.1.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IfMatch(Option<Vec<String>>);

impl IfMatch {
    /// The versions with these tags.
    #[must_use]
    pub fn any_of(tags: Vec<String>) -> Self {
        Self(Some(tags))
    }

    /// Whether a resource of this version may be replaced.
    ///
    /// # Errors
    /// `Refused` as `version_changed`.
    pub fn check(&self, version: i64) -> Result<()> {
        let tag = format!("\"{version}\"");
        match &self.0 {
            Some(tags) if !tags.iter().any(|given| *given == tag || given == "*") => {
                let detail = format!(
                    "It has changed since you read it: it is at version {version} now. Read it \
                     again, and repeat what you meant."
                );
                Err(Error::refusal(Refusal::Precondition, "version_changed", detail))
            }
            _ => Ok(()),
        }
    }
}
