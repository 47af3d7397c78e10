//! What makes the command trust the session's authority: one bundle of certificates, and every
//! variable by which a runtime can be told of it.
//!
//! *Never*: sees a private key.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc::{O_DIRECTORY, O_NOFOLLOW};
use nix::unistd::{AccessFlags, access, geteuid};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use uuid::Uuid;

use super::keystore::{self, Store};
use crate::jail::certificates::{self, Bundle};

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

/// The variables that name a file of settings: wget's, in the place of the system's, and apt's. Both look at
/// the system's certificates, which a jail without mounts cannot replace.
const SETTINGS_VARIABLES: [&str; 2] = ["SYSTEM_WGETRC", "APT_CONFIG"];

/// The system's settings of wget.
const WGETRC: &str = "/etc/wgetrc";

/// How the name of every session's directory begins.
const PREFIX: &str = "boundary-";

/// How often a directory is made anew when a sweep of another session took it before it was locked.
const ATTEMPTS: usize = 16;

/// The variables that send programs to a proxy, or past it. They were meant for boundary: a program
/// inside cannot reach that proxy, and has no business with its password.
const PROXY_VARIABLES: &[&str] = &[
    "ALL_PROXY",
    "BOUNDARY_UPSTREAM_PROXY",
    "CARGO_HTTP_PROXY",
    "FTP_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "NPM_CONFIG_HTTPS_PROXY",
    "NPM_CONFIG_NOPROXY",
    "NPM_CONFIG_PROXY",
    "PIP_PROXY",
    "RSYNC_PROXY",
];

/// The folder in it that the door to the session's rooms stands in.
const ROOMS: &str = "rooms";

/// The directory of a session's files that the command reads, removed with the session.
///
/// Whoever made it holds a lock on it, so that another session's [`sweep`] tells it from what a
/// killed one left.
#[derive(Debug)]
pub(super) struct SessionFiles {
    directory: PathBuf,
    _lock: File,
}

impl SessionFiles {
    /// The place of a session's directory, before it is made.
    pub(super) fn place(session: &Uuid) -> PathBuf {
        base().join(format!("{PREFIX}{}", session.simple()))
    }

    /// Removes what killed sessions left, and makes the directory.
    pub(super) fn create(directory: PathBuf) -> io::Result<Self> {
        sweep();
        for _ in 0..ATTEMPTS {
            match show_folder(&directory).and_then(|()| take(&directory)) {
                Ok(Some(lock)) => return Ok(Self { directory, _lock: lock }),
                Ok(None) => {}
                // A sweep took it before it was finished, unless what leads to it is missing.
                Err(error) if error.kind() == io::ErrorKind::NotFound && base().is_dir() => {}
                Err(error) => {
                    drop(fs::remove_dir(&directory));
                    return Err(error);
                }
            }
        }
        Err(io::Error::other("it is taken away again and again"))
    }

    /// Where boundary inside the session asks for a room: in a folder that is covered there.
    pub(super) fn door(&self) -> PathBuf {
        self.directory.join(ROOMS).join("door")
    }

    /// Writes the bundle, the system's roots and then the authority, in every form that programs
    /// read.
    pub(super) fn write_bundle(&self, roots: Roots, authority_pem: &[u8]) -> io::Result<Bundle> {
        let Roots { mut pem, mut java } = roots;
        pem.extend_from_slice(authority_pem);
        CertificateDer::pem_slice_iter(authority_pem).flatten().for_each(|it| java.add(&it));
        let overlay = self.directory.join("certs");
        let bundle = Bundle { file: overlay.join("ca-certificates.crt"), overlay };
        let to_door = self.directory.join(ROOMS);
        for folder in [&to_door, &bundle.overlay, &bundle.anchors(), &bundle.overlay.join("java")] {
            show_folder(folder)?;
        }
        show(&bundle.file, &pem)?;
        let hashed = format!("{}.0", crate::ca::SUBJECT_HASH);
        show(&bundle.overlay.join(hashed), authority_pem)?;
        show(&bundle.anchors().join("boundary.pem"), authority_pem)?;
        show(&bundle.java(), &java.file())?;
        write_settings(&bundle)?;
        Ok(bundle)
    }
}

/// Writes the settings that name the bundle, behind those that wget finds on this system.
fn write_settings(bundle: &Bundle) -> io::Result<()> {
    let [wget, apt] = bundle.settings();
    let file = bundle.file.display();
    // Most systems have none.
    let own = fs::read_to_string(WGETRC).unwrap_or_default();
    show(&wget, format!("{own}\nca_certificate = {file}\n").as_bytes())?;
    show(&apt, format!("Acquire::https::CaInfo \"{file}\";\n").as_bytes())
}

/// The system's roots.
#[derive(Debug)]
pub(super) struct Roots {
    /// As its bundle has them.
    pem: Vec<u8>,
    /// As Java keeps them.
    java: Store,
}

impl Roots {
    /// Reads them, if the system has any. What is no certificate is left out for Java, as a program
    /// that reads PEM would do.
    pub(super) fn read() -> io::Result<Self> {
        let mut pem = match certificates::system_bundle() {
            Some(path) => fs::read(path)?,
            None => Vec::new(),
        };
        if !pem.ends_with(b"\n") && !pem.is_empty() {
            pem.push(b'\n');
        }
        let mut java = Store::default();
        CertificateDer::pem_slice_iter(&pem).flatten().for_each(|it| java.add(&it));
        Ok(Self { pem, java })
    }
}

/// Makes a folder that everybody may read, whatever the caller's umask.
fn show_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Writes a file that everybody may read, whatever the caller's umask.
fn show(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

impl Drop for SessionFiles {
    fn drop(&mut self) {
        // An empty one goes without a descriptor, of which there may be none. Nothing to do about a
        // failure here; the next session's sweep tries again.
        if fs::remove_dir(&self.directory).is_err() {
            drop(fs::remove_dir_all(&self.directory));
        }
    }
}

/// Where the directories of sessions are: where root's are kept, or where anybody may make one. The
/// former may be read-only in a container.
fn base() -> &'static Path {
    let is_roots = geteuid().is_root() && access("/run", AccessFlags::W_OK).is_ok();
    Path::new(if is_roots { "/run" } else { "/tmp" })
}

/// Removes the directories that no keeper holds: all of boundary was killed at once there, and nobody
/// was left to do it. Only our own user's, because anybody may make one below `/tmp`.
fn sweep() {
    let ours = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let session = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        session.is_some_and(|session| Uuid::try_parse(session).is_ok())
    };
    for entry in fs::read_dir(base()).into_iter().flatten().flatten().filter(ours) {
        let path = entry.path();
        let Ok(found) = open(&path) else { continue };
        let is_mine = found.metadata().is_ok_and(|it| it.uid() == geteuid().as_raw());
        if is_mine && found.try_lock().is_ok() && is_same(&found, &path) {
            // What cannot be removed now is the next sweep's.
            drop(fs::remove_dir_all(&path));
        }
    }
}

/// Locks a new directory. None if a sweep has taken it away before.
fn take(path: &Path) -> io::Result<Option<File>> {
    let folder = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    folder.lock()?;
    Ok(is_same(&folder, path).then_some(folder))
}

/// Opens a directory, and nothing that only leads to one.
fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(O_DIRECTORY | O_NOFOLLOW).open(path)
}

/// Whether a path still stands for an open directory.
fn is_same(open: &File, path: &Path) -> bool {
    let number = |found: io::Result<fs::Metadata>| found.map(|it| (it.dev(), it.ino())).ok();
    number(open.metadata()).is_some_and(|own| number(fs::symlink_metadata(path)) == Some(own))
}

/// The command's environment: the caller's without its proxies, with the bundle named to every
/// runtime.
pub(super) fn environment(
    caller: impl Iterator<Item = (OsString, OsString)>,
    bundle: &Bundle,
) -> Vec<(OsString, OsString)> {
    let is_ours = |name: &OsStr| BUNDLE_VARIABLES.iter().any(|ours| name == *ours);
    let is_proxy =
        |name: &OsStr| PROXY_VARIABLES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy));
    let mut environment: Vec<_> =
        caller.filter(|(name, _)| !is_ours(name) && !is_proxy(name)).collect();
    for name in BUNDLE_VARIABLES {
        environment.push((OsString::from(name), bundle.file.clone().into_os_string()));
    }
    for (name, file) in SETTINGS_VARIABLES.into_iter().zip(bundle.settings()) {
        // Settings of the user's own stand.
        if environment.iter().all(|(known, _)| known != name) {
            environment.push((name.into(), file.into_os_string()));
        }
    }
    tell_java(&mut environment, bundle);
    environment
}

/// The variable that every Java reads options from.
const JAVA_OPTIONS: &str = "JAVA_TOOL_OPTIONS";

/// Tells Java where to look, behind what the user told it: the last word counts, and a store of the
/// user's own does not know the session's authority.
fn tell_java(environment: &mut Vec<(OsString, OsString)>, bundle: &Bundle) {
    let mut options = OsString::new();
    environment.retain(|(name, value)| {
        let is_told = name == JAVA_OPTIONS;
        if is_told && !value.is_empty() {
            options.push(value);
            options.push(" ");
        }
        !is_told
    });
    options.push("-Djavax.net.ssl.trustStore=");
    options.push(bundle.java());
    options.push(format!(" -Djavax.net.ssl.trustStorePassword={}", keystore::PASSWORD));
    environment.push((JAVA_OPTIONS.into(), options));
}
