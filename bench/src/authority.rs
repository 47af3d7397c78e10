//! Keys and certificates of the measured world, and the TLS configurations made of them.
//!
//! *Standing*: the conductor makes one authority for the origin and one for the peers, and writes
//! them where both can be read; origin, load and prototype take their configurations from here.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// What an authority signs with, and its certificate.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    key: String,
}

/// The key that a leaf has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// RSA with 2048 bits: what a handshake costs with many an origin.
    Rsa,
    /// ECDSA on P-256.
    Ecdsa,
}

impl Authority {
    /// A new authority.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let keys = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&keys)?;
        Ok(Self {
            pem: certificate.pem(),
            key: keys.serialize_pem(),
            certificate: certificate.into(),
            issuer: Issuer::new(params, keys),
        })
    }

    /// Writes the certificate, the key, and both in one file, as each peer wants them.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> Result<()> {
        let both = format!("{}{}", self.key, self.pem);
        for (end, text) in [("pem", &self.pem), ("key", &self.key), ("both", &both)] {
            let path = folder.join(format!("{name}.{end}"));
            fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// What a server says for these names.
    pub(crate) fn server(
        &self,
        names: &[&str],
        kind: Kind,
        protocols: &[&[u8]],
    ) -> Result<ServerConfig> {
        let keys = match kind {
            Kind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
            Kind::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        };
        let leaf = self.leaf(names, &keys)?;
        let key = PrivateKeyDer::try_from(keys.serialize_der())
            .map_err(|why| anyhow::anyhow!("a key of our own: {why}"))?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![leaf, self.certificate.clone()], key)?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    /// A certificate for these names.
    pub(crate) fn leaf(&self, names: &[&str], keys: &KeyPair) -> Result<CertificateDer<'static>> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(keys, &self.issuer)?.into())
    }
}

/// Whether a client takes up an earlier session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sessions {
    /// Each handshake is a whole one.
    Whole,
    /// As they come.
    Resumed,
}

/// What a client that believes the certificates in a file says.
pub(crate) fn client(
    roots: &Path,
    protocols: &[&[u8]],
    sessions: Sessions,
) -> Result<Arc<ClientConfig>> {
    let mut store = RootCertStore::empty();
    let file = || roots.display().to_string();
    for certificate in CertificateDer::pem_file_iter(roots).with_context(file)? {
        store.add(certificate.with_context(file)?).with_context(file)?;
    }
    let mut config = ClientConfig::builder().with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    if sessions == Sessions::Whole {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}
