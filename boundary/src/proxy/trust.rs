//! Whom the proxy believes upstream: the system's roots and those the user added.
//!
//! *Standing*: [`super::upstream`] asks before its first handshake. *Never*: connects unverified.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use super::tls;

/// How many servers' sessions are kept to be resumed. Which ones the command chooses, so there is a
/// bound.
const MOST_SESSIONS: usize = 1024;

/// The roots, read before the first dial and not at start, where a millisecond counts.
pub(super) struct Trust {
    extra: Vec<PathBuf>,
    connector: OnceCell<TlsConnector>,
}

impl Trust {
    /// The system's roots and those in the files.
    pub(super) fn new(extra: Vec<PathBuf>) -> Self {
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
        f.debug_struct("Trust").field("extra", &self.extra).finish_non_exhaustive()
    }
}

/// Reads the roots. A system root that cannot be read is left out, as every other client does; one
/// that the user named must be there.
fn connector(extra: &[PathBuf]) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's certificates were not read");
    }
    roots.add_parsable_certificates(system.certs);
    for path in extra {
        let named = |error: &dyn std::fmt::Display| {
            io::Error::other(format!("{}: {error}", path.display()))
        };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| named(&error))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| named(&error))?;
            roots.add(certificate).map_err(|error| named(&error))?;
        }
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
