//! Who is trusted: Mozilla's roots, which are in the program, and for AWS the roots that all of its services have ("Amazon Trust Services"). Reading a
//! system's 144 costs each start 4 to 10 ms, for each kind of client. Who needs others (a private CA, an inspecting proxy) names them by `SSL_CERT_FILE`,
//! as OpenSSL does (docs/deploy.md, "Certificates").

use std::time::Duration;

use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use rustls::{ClientConfig, RootCertStore};

use crate::{Error, Result};

/// Amazon Root CA 1 to 4, and Starfield Services Root Certificate Authority G2, as the Amazon Trust Services Repository publishes them.
const AMAZON_ROOTS: &[u8] = include_bytes!("amazon-roots.pem");

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
        let mut config = ClientConfig::builder().with_root_certificates(roots()).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        builder = builder.tls_backend_preconfigured(config);
    }
    builder.build().map_err(|error| Error::Internal(format!("HTTP client: {error}")))
}

/// What the clients of AWS send by.
#[must_use]
pub fn aws_client() -> SharedHttpClient {
    let trusted = if has_own_roots() { TrustStore::default() } else { TrustStore::empty().with_pem_certificate(AMAZON_ROOTS) };
    // Nothing of it is refused today; if ever, the system's roots serve.
    let context = TlsContext::builder().with_trust_store(trusted).build().unwrap_or_default();
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context).build_https()
}

fn has_own_roots() -> bool {
    // No setting of ours, but of OpenSSL: the native roots are read by it.
    std::env::var_os("SSL_CERT_FILE").is_some()
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn amazons_five_roots_are_all_readable() {
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(AMAZON_ROOTS) {
            store.add(root.expect("a certificate")).expect("a root");
        }
        assert_eq!(store.len(), 5);
    }
}
