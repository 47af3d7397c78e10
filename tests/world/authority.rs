//! The authority that the simulated internet trusts, one for all worlds, and its leaves.
//!
//! A host's name chooses the certificate: `expired.` is over, `selfsigned.` signs itself,
//! `wrong.` stands for somebody else; every other host gets what it should have.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

/// The one authority of the test process.
static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::new);

/// Signs for whoever is asked for.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    key: KeyPair,
    leaves: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl Authority {
    /// The authority.
    pub(crate) fn the() -> &'static Self {
        &AUTHORITY
    }

    /// A new authority.
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "the simulated internet");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        Self { issuer, key, leaves: Mutex::default() }
    }

    /// Its certificate, for `--upstream-ca` and for programs outside a jail.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// What a server says for a host.
    pub(crate) fn server(&self, host: &str) -> Arc<ServerConfig> {
        let mut leaves = self.leaves.lock().expect("not poisoned");
        let leaf = leaves.entry(host.to_owned()).or_insert_with(|| Arc::new(self.mint(host)));
        Arc::clone(leaf)
    }

    /// Makes a host's certificate, right or wrong as its name says.
    fn mint(&self, host: &str) -> ServerConfig {
        let named = if host.starts_with("wrong.") { "elsewhere.test" } else { host };
        let mut params = CertificateParams::new(vec![named.to_owned()]).expect("a host name");
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name.push(DnType::CommonName, named);
        if host.starts_with("expired.") {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let leaf = if host.starts_with("selfsigned.") {
            params.self_signed(&self.key)
        } else {
            params.signed_by(&self.key, &self.issuer)
        };
        let chain = vec![leaf.expect("a certificate").der().clone(), self.issuer.der().clone()];
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("the key's own bytes");
        ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("the key fits the certificate")
    }
}
