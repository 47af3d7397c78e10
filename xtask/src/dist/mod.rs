//! Builds what is released: for each architecture one static program with its kernel half inside, as
//! an archive and as packages, with the list of what it is made from and the sums of all.
//!
//! The same checkout gives the same bytes wherever it lies: no path, time or user of this machine is
//! in them.
//!
//! *Never*: releases. What is built stays in `dist` below the target folder.

mod archive;
mod deb;
mod elf;
mod pages;
mod rpm;
mod sbom;
mod trial;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use sha2::{Digest as _, Sha256};

use crate::arch::Arch;
use crate::built::Built;
use crate::debian::{said, succeed};
use crate::musl::Static;
use crate::say::say;
use crate::setup::setup;
use crate::workspace::Workspace;
use archive::Entry;

/// Builds what is released.
#[derive(Debug, Args)]
pub(crate) struct Dist {
    /// For this architecture alone.
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Signs the sums with this key of ssh (`ssh-keygen -Y sign`, under the name `boundary`).
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// Installs what was built for this machine in a new root of Debian, and runs it there.
    #[arg(long = "try")]
    tried: bool,
}

/// What is the same for everything that is built.
#[derive(Debug)]
pub(crate) struct Release<'a> {
    workspace: &'a Workspace,
    /// Where it goes.
    folder: PathBuf,
    /// The version of the program.
    version: String,
    /// When the checkout was committed, in seconds: the time of every file.
    time: u64,
    /// Completions and manual pages.
    pages: Vec<Entry>,
}

/// Builds what is released, and says where it is.
pub(crate) fn dist(workspace: &Workspace, asked: &Dist) -> Result<ExitCode> {
    setup(workspace)?;
    let folder = workspace.target().join("dist");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("target/dist")?;
    }
    fs::create_dir_all(&folder).context("target/dist")?;
    let (version, time) = (version(workspace)?, commit_time(workspace)?);
    // What it says of itself, the program of this machine says for all.
    let own = program(workspace, Arch::host().context("not for this machine")?)?;
    let pages = pages::pages(&own, &workspace.target().join("dist-pages"))?;
    let release = Release { workspace, folder, version, time, pages };
    for arch in asked.arch.map_or_else(|| Arch::ALL.to_vec(), |arch| vec![arch]) {
        let program = program(workspace, arch)?;
        archive::write(&release, arch, &program)?;
        let files = installed(&release, &program)?;
        deb::write(&release, arch, &files)?;
        rpm::write(&release, arch, &files)?;
        sbom::write(&release, arch)?;
    }
    copy(&release, "deploy/install.sh")?;
    sums(&release.folder)?;
    if let Some(key) = &asked.sign {
        sign(&release.folder.join("SHA256SUMS"), key)?;
    }
    if asked.tried {
        trial::try_all(&release, Arch::host().context("not for this machine")?)?;
    }
    say(format_args!("dist: {}", release.folder.display()));
    Ok(ExitCode::SUCCESS)
}

/// Where a file of the checkout goes.
const FILES: &[(&str, &str)] = &[
    ("LICENSE", "usr/share/doc/boundary/copyright"),
    ("CHANGELOG.md", "usr/share/doc/boundary/CHANGELOG.md"),
    ("README.md", "usr/share/doc/boundary/README.md"),
    ("deploy/apparmor/boundary", "usr/share/apparmor/extra-profiles/boundary"),
    ("deploy/capabilities.sh", "usr/share/boundary/capabilities"),
    ("deploy/systemd/boundary@.service", "usr/lib/systemd/system/boundary@.service"),
];

/// What a package installs, below `./`.
fn installed(release: &Release<'_>, program: &Path) -> Result<Vec<Entry>> {
    let bytes = fs::read(program).with_context(|| program.display().to_string())?;
    let mut entries = vec![Entry { path: "./usr/bin/boundary".into(), bytes, mode: 0o755 }];
    let pages = release.pages.iter().cloned();
    entries.extend(pages.map(|page| Entry { path: format!("./usr/{}", page.path), ..page }));
    for (from, to) in FILES {
        let bytes = release.read(from)?;
        entries.push(Entry { path: format!("./{to}"), bytes, mode: 0o644 });
    }
    Ok(entries)
}

/// Builds the program of an architecture, and looks at what it is.
pub(crate) fn program(workspace: &Workspace, arch: Arch) -> Result<PathBuf> {
    say(format_args!("dist: building for {arch}"));
    let means = Static::prepare(workspace, arch)?;
    let built = means.build(workspace, &["--release", "--package", "boundary"])?;
    let program = checked(&built, arch)?;
    let bytes = fs::read(&program).with_context(|| program.display().to_string())?;
    let places = [Some(workspace.root().to_path_buf()), std::env::home_dir()];
    if let Some(place) = places.iter().flatten().find(|place| names(&bytes, place)) {
        bail!("{} names {}, a place of this machine", program.display(), place.display());
    }
    Ok(program)
}

/// Whether a program has a path below a folder in it.
fn names(bytes: &[u8], folder: &Path) -> bool {
    let path = format!("{}/", folder.display());
    path.len() > 2 && bytes.windows(path.len()).any(|window| window == path.as_bytes())
}

/// The program, if it is whole and needs nothing of a machine; where it can run here, it has.
fn checked(built: &Built, arch: Arch) -> Result<PathBuf> {
    built.require_kernel_half()?;
    let program = built.program("boundary")?;
    let bytes = fs::read(program).with_context(|| program.display().to_string())?;
    elf::require_static(&bytes, arch).with_context(|| program.display().to_string())?;
    if arch.is_host() {
        let version = said(Command::new(program).arg("--version"))?;
        say(format_args!("dist: {}, {} bytes", version.trim(), bytes.len()));
    }
    Ok(program.to_path_buf())
}

impl Release<'_> {
    /// A file of the checkout.
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        fs::read(self.workspace.root().join(path)).with_context(|| path.to_owned())
    }

    /// Puts a file where everything goes.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        say(format_args!("dist: {name}"));
        fs::write(self.folder.join(name), bytes).with_context(|| name.to_owned())
    }
}

/// The version in the manifest.
fn version(workspace: &Workspace) -> Result<String> {
    let packages = workspace.metadata(&["--no-deps"])?;
    let packages = packages.get("packages").and_then(|it| it.as_array()).cloned();
    let text = |package: &serde_json::Value, field| package.get(field)?.as_str().map(str::to_owned);
    let of_boundary = |package: &serde_json::Value| {
        (text(package, "name")? == "boundary").then(|| text(package, "version"))?
    };
    packages.iter().flatten().find_map(of_boundary).context("cargo metadata names no boundary")
}

/// When the checkout was committed, unless the caller says what time it is
/// (<https://reproducible-builds.org/specs/source-date-epoch/>).
fn commit_time(workspace: &Workspace) -> Result<u64> {
    if let Ok(time) = std::env::var("SOURCE_DATE_EPOCH") {
        return time.parse().context("SOURCE_DATE_EPOCH");
    }
    let mut git = workspace.command("git");
    let time =
        said(git.args(["log", "-1", "--format=%ct"])).context("SOURCE_DATE_EPOCH, or git")?;
    time.trim().parse().context("git log")
}

/// Puts a file of the checkout beside what was built.
fn copy(release: &Release<'_>, path: &str) -> Result<()> {
    let name = Path::new(path).file_name().and_then(|name| name.to_str()).context("no name")?;
    release.put(name, &release.read(path)?)
}

/// Signs a file with a key, into a file beside it that ends in `.sig`.
fn sign(file: &Path, key: &Path) -> Result<()> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-Y", "sign", "-n", "boundary", "-f"]).arg(key).arg(file);
    succeed(&mut keygen)
}

/// The sum of some bytes, as it is written.
fn hex_sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// Writes the sums of everything, as `sha256sum --check` reads them.
fn sums(folder: &Path) -> Result<()> {
    let mut sums = String::new();
    for path in crate::debian::entries(folder)? {
        let name = path.file_name().context("no name")?.to_string_lossy();
        let bytes = fs::read(&path).with_context(|| name.clone().into_owned())?;
        writeln!(sums, "{}  {name}", hex_sum(&bytes))?;
    }
    ensure!(!sums.is_empty(), "nothing was built");
    fs::write(folder.join("SHA256SUMS"), sums).context("SHA256SUMS")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::names;

    #[test]
    fn a_program_that_has_a_path_of_this_machine_in_it_is_noticed() {
        let program = b"\x7fELF\0/home/ann/lib.rs\0registry/a/b.rs\0";
        assert!(names(program, Path::new("/home/ann")));
        assert!(!names(program, Path::new("/home/an")));
        assert!(!names(program, Path::new("/")));
    }
}
