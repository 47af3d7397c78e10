//! A certificate authority that lives and dies with the session, and its cache of leaves.

use std::sync::Arc;

use rustls::sign::CertifiedKey;

use crate::rules::Host;

/// The session's authority. Its private key never leaves the process.
#[derive(Debug)]
pub struct Authority {}

/// The authority could not be made or could not sign.
#[derive(Debug, thiserror::Error)]
#[error("certificate authority: {0}")]
pub struct Error(#[from] rcgen::Error);

impl Authority {
    /// Makes a new authority.
    pub fn new() -> Result<Self, Error> {
        unimplemented!()
    }

    /// The authority's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        unimplemented!()
    }

    /// A leaf for the host, minted or from the cache.
    pub fn leaf(&self, _host: &Host) -> Result<Arc<CertifiedKey>, Error> {
        unimplemented!()
    }
}
