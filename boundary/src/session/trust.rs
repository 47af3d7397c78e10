//! What makes the command trust the session's authority: one bundle of certificates, and every
//! variable by which a runtime can be told of it.
//!
//! *Never*: sees a private key.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::jail::mounts::{self, Bundle};

/// The variables that name a file of certificates, one for each family of clients that reads it.
const BUNDLE_VARIABLES: &[&str] = &[
    "AWS_CA_BUNDLE",
    "BUNDLE_SSL_CA_CERT",
    "CARGO_HTTP_CAINFO",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HEX_CACERTS_PATH",
    "NIX_SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "npm_config_cafile",
];

/// The directory of a session's files that the command reads, removed with the session.
#[derive(Debug)]
pub(super) struct SessionFiles {
    directory: PathBuf,
}

impl SessionFiles {
    /// The place of a session's directory, before it is made.
    pub(super) fn place(session: &Uuid) -> PathBuf {
        let base = if Path::new("/run").is_dir() { "/run" } else { "/tmp" };
        Path::new(base).join(format!("boundary-{}", session.simple()))
    }

    /// Makes the directory.
    pub(super) fn create(directory: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().mode(0o755).create(&directory)?;
        Ok(Self { directory })
    }

    /// Writes the bundle: the system's roots, then the authority.
    pub(super) fn write_bundle(&self, authority_pem: &[u8]) -> io::Result<Bundle> {
        let mut pem = match mounts::system_bundle() {
            Some(path) => fs::read(path)?,
            None => Vec::new(),
        };
        if !pem.ends_with(b"\n") && !pem.is_empty() {
            pem.push(b'\n');
        }
        pem.extend_from_slice(authority_pem);
        let overlay = self.directory.join("certs");
        fs::DirBuilder::new().mode(0o755).create(&overlay)?;
        let file = overlay.join("ca-certificates.crt");
        fs::write(&file, &pem)?;
        fs::write(overlay.join(format!("{}.0", crate::ca::SUBJECT_HASH)), authority_pem)?;
        Ok(Bundle { file, overlay })
    }
}

impl Drop for SessionFiles {
    fn drop(&mut self) {
        // Nothing to do about a failure here; the next session's sweep tries again.
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// The command's environment: the caller's, with the bundle named to every runtime.
pub(super) fn environment(
    caller: impl Iterator<Item = (OsString, OsString)>,
    bundle: &Bundle,
) -> Vec<(OsString, OsString)> {
    let is_ours = |name: &OsStr| BUNDLE_VARIABLES.iter().any(|ours| name == *ours);
    let mut environment: Vec<_> = caller.filter(|(name, _)| !is_ours(name)).collect();
    for name in BUNDLE_VARIABLES {
        environment.push((OsString::from(name), bundle.file.clone().into_os_string()));
    }
    environment
}
