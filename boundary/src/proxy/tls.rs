//! Answering as the host, with a leaf of the session's authority.
//!
//! *Standing*: [`super::Proxy::carry`] continues a TLS greeting here. *Never*: decides; whether the name in
//! the greeting agrees with everything else is asked for each request.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer, cipher_suite};
use rustls::server::{Accepted, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::Stream;

/// What all intercepted connections have in common: suites, tickets, protocols.
#[derive(Debug)]
pub(super) struct Interception {
    template: ServerConfig,
}

impl Interception {
    /// Interception for a session. Tickets are of the session, so that a client resumes; whom a
    /// resumed client speaks to is judged by its requests like everybody's.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let mut template = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Nobody));
        template.ignore_client_order = true;
        template.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        template.ticketer = Ticketer::new()?;
        template.send_tls13_tickets = 1;
        Ok(Self { template })
    }

    /// Finishes the handshake that a greeting began, as the leaf's host.
    pub(super) async fn accept<S: Stream>(
        &self,
        accepted: Accepted,
        stream: S,
        leaf: Arc<CertifiedKey>,
    ) -> io::Result<TlsStream<S>> {
        let mut config = self.template.clone();
        config.cert_resolver = Arc::new(Leaf(leaf));
        StartHandshake::from_parts(accepted, stream).into_stream(Arc::new(config)).await
    }
}

/// AES-128-GCM before AES-256-GCM. It is as strong as anybody needs, browsers ask for it first as well,
/// and it costs half: the other's handshake takes SHA-384, which processors do not help with.
pub(super) fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        let fast = [
            cipher_suite::TLS13_AES_128_GCM_SHA256.suite(),
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256.suite(),
        ];
        // A stable sort: versions keep their order, and the slower suites theirs.
        (suite.tls13().is_none(), !fast.contains(&suite.suite()))
    });
    provider
}

/// The one leaf of one connection.
#[derive(Debug)]
struct Leaf(Arc<CertifiedKey>);

impl ResolvesServerCert for Leaf {
    fn resolve(&self, _greeting: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Stands in the template, which is never used as it is.
#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _greeting: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}
