//! A key and its request.

use crate::base::ids::TenantId;
use crate::{Error, Result};

/// A key in its scope (caller, tenant and route), and the digest of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub(super) text: String,
    pub(super) subject: String,
    pub(super) tenant: Option<TenantId>,
    pub(super) route: String,
    /// SHA-256 of the body.
    pub(super) request: Vec<u8>,
}

impl Key {
    /// The key of a request.
    ///
    /// # Errors
    /// `Invalid` if it is not 1 to 255 visible ASCII characters.
    pub fn new(
        key: &str,
        subject: &str,
        tenant: Option<&TenantId>,
        route: &str,
        body: &[u8],
    ) -> Result<Self> {
        if !(1..=255).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::invalid(
                "idempotency-key",
                "must be 1 to 255 visible ASCII characters",
            ));
        }
        let request = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body).as_ref().to_vec();
        Ok(Self {
            text: key.to_owned(),
            subject: subject.to_owned(),
            tenant: tenant.cloned(),
            route: route.to_owned(),
            request,
        })
    }

    /// The key in its scope, as one text. No part of it can have a line break.
    pub(super) fn scope(&self) -> String {
        format!(
            "{}\n{}\n{}\n{}",
            self.subject,
            self.tenant.as_ref().map_or("", TenantId::as_str),
            self.route,
            self.text
        )
    }

    /// The key for what this request does at Stripe: the same in every repetition, and different
    /// for every other request.
    #[must_use]
    pub fn outside(&self) -> String {
        hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.scope().as_bytes()))
    }
}
