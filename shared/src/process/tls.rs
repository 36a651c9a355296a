//! Who is trusted: Mozilla's roots, which are in the program, and Amazon's among them. Reading a
//! system's 144 costs each start 4 to 10 ms, for each kind of client. Who needs others (a private
//! CA, an inspecting proxy) names them by `SSL_CERT_FILE`, as OpenSSL does (docs/deploy.md,
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

/// A client of HTTP that gives up a connection, and a whole request, after these times.
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
    // No setting of ours, but of OpenSSL: the native roots are read by it.
    std::env::var_os("SSL_CERT_FILE").is_some()
}
