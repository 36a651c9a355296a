//! Trusted roots: Mozilla's, which are in the program and contain Amazon's. Reading a system's 144
//! would cost each start 4 to 10 ms for each kind of client. Other roots (a private CA, an
//! inspecting proxy) are named by `SSL_CERT_FILE`, as OpenSSL does (docs/deploy.md,
//! "Certificates").

use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};

use crate::{Error, Result};

/// Makes aws-lc-rs the provider of every TLS client in the process. Harmless when repeated.
pub fn install() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Mozilla's roots.
#[must_use]
pub fn roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

/// An HTTP client with a time limit for a connection and one for a whole request.
///
/// # Errors
/// `Internal`.
pub fn http_client(connect: Duration, request: Duration) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder().connect_timeout(connect).timeout(request);
    if !has_own_roots() {
        builder = builder.tls_backend_preconfigured(
            ClientConfig::builder().with_root_certificates(roots()).with_no_client_auth(),
        );
    }
    builder.build().map_err(|error| Error::Internal(format!("HTTP client: {error}")))
}

fn has_own_roots() -> bool {
    // A setting of OpenSSL and not ours: the native roots are read by it.
    std::env::var_os("SSL_CERT_FILE").is_some()
}
