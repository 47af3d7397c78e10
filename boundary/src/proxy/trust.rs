//! Whom the proxy believes upstream: the system's roots and those the user added.
//!
//! *Standing*: [`super::upstream`] asks before its first handshake. *Never*: connects unverified.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use super::tls;

/// How many servers' sessions are kept to be resumed. Which ones the command chooses, so there is a
/// bound.
const MOST_SESSIONS: usize = 1024;

/// The roots. The system's are read before the first dial and not at start, where a millisecond counts;
/// those that the user added cannot be read by everybody whom the proxy may be by then.
pub(super) struct Trust {
    extra: Vec<CertificateDer<'static>>,
    connector: OnceCell<TlsConnector>,
}

impl Trust {
    /// The system's roots and those.
    pub(super) fn new(extra: Vec<CertificateDer<'static>>) -> Self {
        Self { extra, connector: OnceCell::new() }
    }

    /// What makes verified connections. A failure is not kept: the next dial tries again.
    pub(super) async fn connector(&self) -> io::Result<&TlsConnector> {
        let made = self.connector.get_or_try_init(|| async {
            let extra = self.extra.clone();
            tokio::task::spawn_blocking(move || connector(&extra)).await?
        });
        made.await
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("extra", &self.extra.len()).finish_non_exhaustive()
    }
}

/// The certificates of a PEM file, each of which can be a root.
pub fn roots_in(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut store = RootCertStore::empty();
    let one = |certificate: Result<CertificateDer<'static>, pem::Error>| {
        let certificate = certificate.map_err(|error| error.to_string())?;
        store.add(certificate.clone()).map_err(|error| error.to_string())?;
        Ok(certificate)
    };
    let all: Vec<_> =
        CertificateDer::pem_slice_iter(pem).map(one).collect::<Result<_, String>>()?;
    if all.is_empty() { Err("no PEM certificate in it".to_owned()) } else { Ok(all) }
}

/// Reads the roots. A system root that cannot be read is left out, as every other client does; one
/// that the user named must be there.
fn connector(extra: &[CertificateDer<'static>]) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's certificates were not read");
    }
    roots.add_parsable_certificates(system.certs);
    for certificate in extra {
        roots.add(certificate.clone()).map_err(io::Error::other)?;
    }
    let provider = Arc::new(tls::provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // By name, and verified by these roots when they began: whom a session belongs to does not change.
    config.resumption = Resumption::in_memory_sessions(MOST_SESSIONS);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
