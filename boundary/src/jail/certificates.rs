//! The certificates that the command's programs read without being told: shown with the session's
//! authority among them.
//!
//! *Standing*: [`mounts`](super::mounts) calls [`show`] in the command's mount namespace, so that a program which
//! clears its environment still works. *Never*: changes what anybody outside sees.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::Call;
use super::mounts::bind;

/// Where distributions keep the one bundle that programs read.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// The directory that OpenSSL searches by the hash of an issuer's name.
const HASHED_DIRECTORY: &str = "/etc/ssl/certs";

/// Where p11-kit finds the authorities that an administrator added: `GnuTLS` and NSS ask it on
/// Fedora, Arch and SUSE.
const ANCHORS: &[&str] = &[
    "/etc/ca-certificates/trust-source/anchors",
    "/etc/pki/ca-trust/source/anchors",
    "/etc/pki/trust/anchors",
];

/// Where Java keeps its own.
const JAVA_STORES: &[&str] = &[
    "/etc/ssl/certs/java/cacerts",
    "/etc/pki/java/cacerts",
    "/var/lib/ca-certificates/java-cacerts",
];

/// Where Javas are installed, one in each folder. Only root writes here: a place that the user chose
/// is not mounted over with root's rights, and `JAVA_TOOL_OPTIONS` speaks to that one.
const JAVA_FOLDERS: &[&str] = &["/usr/lib/jvm", "/opt/java"];

/// The certificates that the command is to see.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// One PEM file: the system's roots and the session's authority.
    pub file: PathBuf,
    /// A directory to lay over OpenSSL's hashed one: the same file under the system's name, and
    /// the authority under its hash; with what else is made of them below.
    pub overlay: PathBuf,
}

impl Bundle {
    /// The same certificates as Java keeps them.
    pub fn java(&self) -> PathBuf {
        self.overlay.join("java/cacerts")
    }

    /// What wget reads as the system's settings, and apt beside them: they name the file.
    pub fn settings(&self) -> [PathBuf; 2] {
        ["wgetrc", "apt.conf"].map(|name| self.overlay.with_file_name(name))
    }

    /// A directory with the authority alone.
    pub fn anchors(&self) -> PathBuf {
        self.overlay.join("anchors")
    }
}

/// Where the system keeps its bundle, if it has one.
pub fn system_bundle() -> Option<PathBuf> {
    BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// Shows the bundle wherever a program looks for the system's.
pub(super) fn show(bundle: &Bundle) -> Result<(), Call> {
    let mut shown = Vec::new();
    if overlay(&bundle.overlay, Path::new(HASHED_DIRECTORY)).is_ok() {
        shown.push(PathBuf::from(HASHED_DIRECTORY).join("ca-certificates.crt"));
        shown.push(PathBuf::from(HASHED_DIRECTORY).join("java/cacerts"));
    }
    for path in BUNDLES {
        replace(Path::new(path), &bundle.file, &mut shown)?;
    }
    let java = bundle.java();
    if java.is_file() {
        for path in java_stores() {
            replace(&path, &java, &mut shown)?;
        }
    }
    let anchors = bundle.anchors();
    for directory in ANCHORS.iter().map(Path::new).filter(|path| path.is_dir()) {
        if let Err(error) = overlay(&anchors, directory) {
            // Programs that are told by their environment still work.
            tracing::debug!(%error, directory = %directory.display(), "no anchors shown");
        }
    }
    Ok(())
}

/// Shows a file in the place of another, if there is one and it was not done before.
fn replace(path: &Path, by: &Path, shown: &mut Vec<PathBuf>) -> Result<(), Call> {
    let Ok(path) = fs::canonicalize(path) else { return Ok(()) };
    if !shown.contains(&path) {
        bind(by, &path)?;
        shown.push(path);
    }
    Ok(())
}

/// Every place where a Java of the system looks.
fn java_stores() -> Vec<PathBuf> {
    let installed = JAVA_FOLDERS.iter().filter_map(|folder| fs::read_dir(folder).ok());
    let own = installed.flatten().flatten().flat_map(|java| {
        ["lib/security/cacerts", "jre/lib/security/cacerts"].map(|store| java.path().join(store))
    });
    JAVA_STORES.iter().map(PathBuf::from).chain(own).collect()
}

/// Lays `top` over `directory`, read-only. Fails where there is no overlayfs.
fn overlay(top: &Path, directory: &Path) -> Result<(), Call> {
    let layers = format!("lowerdir={}:{}", top.display(), directory.display());
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("overlay"), directory, Some("overlay"), flags, Some(layers.as_str()))
        .map_err(Call::to("mount(overlay)"))
}
