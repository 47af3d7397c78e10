//! A certificate authority that lives and dies with the session, and its cache of leaves.
//!
//! *Standing*: the session makes one and shows its certificate to the command; the proxy asks it
//! for a leaf per intercepted host. *Never*: writes or hands out a private key of its own; the
//! leaves' key leaves only inside a [`CertifiedKey`], which signs and cannot be read.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use crate::rules::Host;

/// The authority's name, as a certificate viewer shows it.
const COMMON_NAME: &str = "boundary session CA";

/// The hash of that name by which OpenSSL looks for an issuer in a directory of certificates
/// (`openssl x509 -hash`, the canonical form of RFC 5280 names since OpenSSL 1.0).
pub const SUBJECT_HASH: &str = "3d0fd471";
/// How long the authority lives: longer than any session. Its key is gone with the session, and what
/// is left of it is worth nothing then.
const AUTHORITY_LIFE: Duration = Duration::from_hours(366 * 24);
/// How long a leaf lives.
const LEAF_LIFE: Duration = Duration::from_hours(24);
/// How long before its end a leaf is minted anew, so that no client is shown an expiring one.
const RENEW_BEFORE: Duration = Duration::from_hours(6);
/// How far certificates are dated back, for clocks that are behind ours or set back later.
const BACKDATED: Duration = Duration::from_hours(24);
/// How many leaves are kept. Hosts are chosen by the command, so there is a bound.
const MOST_LEAVES: usize = 1024;
/// The longest common name that X.520 allows (`ub-common-name`).
const LONGEST_COMMON_NAME: usize = 64;

/// The session's authority. Its private key never leaves the process.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    expires: SystemTime,
    leaf_keys: KeyPair,
    leaf_signer: Arc<dyn SigningKey>,
    leaves: Mutex<Leaves>,
}

/// The authority could not be made or could not sign.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key or a certificate could not be made.
    #[error("the session's certificate authority could not sign")]
    Sign(#[from] rcgen::Error),
    /// The leaf key does not fit the TLS library.
    #[error("the session's leaf key could not be used")]
    Key(#[from] rustls::Error),
}

impl Authority {
    /// Makes a new authority.
    pub fn new() -> Result<Self, Error> {
        let keys = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let now = SystemTime::now();
        let expires = now + AUTHORITY_LIFE;
        let mut params = dated(now, expires);
        params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&keys)?;
        let leaf_keys = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let private = PrivatePkcs8KeyDer::from(leaf_keys.serialize_der());
        let leaf_signer = any_ecdsa_type(&PrivateKeyDer::Pkcs8(private))?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.into(),
            issuer: Issuer::new(params, keys),
            expires,
            leaf_keys,
            leaf_signer,
            leaves: Mutex::default(),
        })
    }

    /// The authority's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// How many leaves are in the cache.
    pub fn count(&self) -> usize {
        self.leaves().by_host.len()
    }

    /// A leaf for the host, minted or from the cache.
    pub fn leaf(&self, host: &Host) -> Result<Arc<CertifiedKey>, Error> {
        self.leaf_at(host, SystemTime::now())
    }

    /// As [`Self::leaf`], at a given time. Only who asks for the same host waits while its leaf is
    /// minted (tens of microseconds), and then has it.
    fn leaf_at(&self, host: &Host, now: SystemTime) -> Result<Arc<CertifiedKey>, Error> {
        let place = self.leaves().place(host);
        let mut kept = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = kept.as_ref().filter(|leaf| leaf.is_fresh(now)) {
            return Ok(Arc::clone(&leaf.certified));
        }
        let until = (now + LEAF_LIFE).min(self.expires);
        let certified = Arc::new(self.mint(host, now, until)?);
        *kept = Some(Leaf { certified: Arc::clone(&certified), minted: now, until });
        Ok(certified)
    }

    /// Signs a leaf. The chain carries the authority too: some clients build their path from it.
    fn mint(
        &self,
        host: &Host,
        now: SystemTime,
        expires: SystemTime,
    ) -> Result<CertifiedKey, Error> {
        let mut params = dated(now, expires);
        let name = match host {
            Host::Name(name) => {
                params.subject_alt_names = vec![SanType::DnsName(name.as_str().try_into()?)];
                name.to_string()
            }
            Host::Address(address) => {
                params.subject_alt_names = vec![SanType::IpAddress(*address)];
                address.to_string()
            }
        };
        // Without a common name the subject is empty and the alternative name is marked critical.
        if name.len() <= LONGEST_COMMON_NAME {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        // `ExplicitNoCa` also writes the subject key identifier.
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&self.leaf_keys, &self.issuer)?;
        let chain = vec![leaf.into(), self.certificate.clone()];
        Ok(CertifiedKey::new(chain, Arc::clone(&self.leaf_signer)))
    }

    /// The cache. A thread that panicked while holding it cannot have left it half-written.
    fn leaves(&self) -> std::sync::MutexGuard<'_, Leaves> {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Authority {
    /// Shows nothing of the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// What every certificate of the session has in common: its dates and a serial of its own.
fn dated(now: SystemTime, expires: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = (now - BACKDATED).into();
    params.not_after = expires.into();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(serial());
    params
}

/// A random serial number: 122 random bits below a leading byte that keeps it positive and short.
fn serial() -> SerialNumber {
    let mut bytes = vec![0x42];
    bytes.extend_from_slice(uuid::Uuid::new_v4().as_bytes());
    SerialNumber::from(bytes)
}

/// Where a host's leaf is kept. Its lock is held while the leaf is minted.
type Place = Arc<Mutex<Option<Leaf>>>;

/// The leaves minted so far.
#[derive(Default)]
struct Leaves {
    by_host: HashMap<Host, (Place, u64)>,
    /// The same by when they were used last: the first was not used for longest.
    by_use: BTreeMap<u64, Host>,
    /// Counts uses.
    clock: u64,
}

/// A leaf in the cache.
struct Leaf {
    certified: Arc<CertifiedKey>,
    minted: SystemTime,
    until: SystemTime,
}

impl Leaf {
    /// Whether it can be shown: not near its end, and begun even if the clock was set back.
    fn is_fresh(&self, now: SystemTime) -> bool {
        let begins = self.minted - BACKDATED / 2;
        now >= begins && now + RENEW_BEFORE <= self.until
    }
}

impl Leaves {
    /// The host's place. A new one may take that of the host unused for longest.
    fn place(&mut self, host: &Host) -> Place {
        self.clock += 1;
        if let Some((place, used)) = self.by_host.get_mut(host) {
            let before = std::mem::replace(used, self.clock);
            let known = self.by_use.remove(&before).unwrap_or_else(|| host.clone());
            self.by_use.insert(self.clock, known);
            return Arc::clone(place);
        }
        if self.by_host.len() >= MOST_LEAVES
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.by_host.remove(&oldest);
        }
        let place = Place::default();
        self.by_host.insert(host.clone(), (Arc::clone(&place), self.clock));
        self.by_use.insert(self.clock, host.clone());
        place
    }
}

#[cfg(test)]
mod tests;
