//! Packages of Debian's archive for any architecture and release, by apt with a state of its own.
//!
//! The machine's own apt is asked once, where its archive is; its lists, its packages and its
//! settings stay as they are. Everything that is downloaded was verified by apt, against the keys
//! that the machine trusts already, and is kept below the target folder.
//!
//! *Standing*: `vm` takes kernels and the programs of its guests here, `musl` the C library of another
//! architecture. *Never*: installs anything.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::arch::Arch;
use crate::say::say;
use crate::workspace::Workspace;

/// The releases whose kernels are taken, besides the machine's own: each with one long-lived
/// kernel, and the one that is never released with the newest.
const RELEASES: [&str; 4] = ["bullseye", "bookworm", "trixie", "sid"];

/// The release that has no separate updates.
const UNRELEASED: &str = "sid";

/// How old the lists may become: a new kernel is no hurry.
const FRESH: Duration = Duration::from_hours(24);

/// Debian's archive, seen by one architecture.
#[derive(Debug)]
pub(crate) struct Debian {
    /// Where lists and packages are kept.
    folder: PathBuf,
    arch: Arch,
    /// Where the archive is.
    archive: String,
    /// The machine's own release.
    release: String,
}

impl Debian {
    /// Opens the archive, with lists of today.
    pub(crate) fn open(workspace: &Workspace, arch: Arch) -> Result<Self> {
        let folder = workspace.target().join("debian").join(arch.debian());
        let Sources { text: sources, archive, release } = sources()?;
        let debian = Self { folder, arch, archive, release };
        for below in ["lists/partial", "cache/archives/partial", "kept"] {
            let below = debian.folder.join(below);
            fs::create_dir_all(&below).with_context(|| below.display().to_string())?;
        }
        // Written anew it would have apt read every list again.
        if debian.read("status").is_err() {
            debian.write("status", "")?;
        }
        let is_same = debian.read("sources.list").is_ok_and(|before| before == sources);
        if !is_same || !debian.is_fresh() {
            debian.write("sources.list", &sources)?;
            debian.update()?;
        }
        Ok(debian)
    }

    /// The architecture whose packages these are.
    pub(crate) fn arch(&self) -> Arch {
        self.arch
    }

    /// Where the archive is, as the machine's own apt has it.
    pub(crate) fn archive(&self) -> &str {
        &self.archive
    }

    /// The machine's own release.
    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// The newest version of a package that begins so, with what it depends on directly.
    pub(crate) fn newest(&self, package: &str, begins: &str) -> Result<(String, Vec<String>)> {
        let shown = said(self.apt("apt-cache").args(["show", package]))?;
        let versions = shown.split("\n\n").filter_map(|paragraph| {
            let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name));
            let version = field("Version: ").filter(|version| version.starts_with(begins))?;
            Some((version.to_owned(), names(field("Depends: ").unwrap_or_default())))
        });
        // apt shows the newest first.
        versions.into_iter().next().with_context(|| {
            format!("no {package} {begins}* in Debian's archive as this machine sees it")
        })
    }

    /// Downloads packages, each `NAME` or `NAME=VERSION`, and nothing else.
    pub(crate) fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        let kept = self.folder.join("kept");
        let mut apt = self.apt("apt-get");
        succeed(apt.args(["-qq", "download"]).args(packages).current_dir(&kept))?;
        let uris = said(self.apt("apt-get").args(["--print-uris", "download"]).args(packages))?;
        // 'URI' FILE SIZE HASH
        Ok(uris.lines().filter_map(|line| Some(kept.join(line.split(' ').nth(1)?))).collect())
    }

    /// Downloads packages of the machine's own release with everything that they need.
    pub(crate) fn closure(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let install = |more: &[&str]| {
            let mut apt = self.apt("apt-get");
            apt.args(["-qq", "--yes", "--no-install-recommends"]).args(more);
            apt.arg("install").args(packages);
            apt
        };
        succeed(&mut install(&["--download-only"]))?;
        let planned = said(&mut install(&["--simulate"]))?;
        let archives = self.folder.join("cache/archives");
        // Inst NAME[:ARCH] (VERSION RELEASE [ARCH])
        let files = planned.lines().filter_map(|line| line.strip_prefix("Inst ")).map(|line| {
            let (name, rest) = line.split_once(" (").context("apt-get --simulate")?;
            let (name, version) = (before(name, ':'), before(rest, ' ').replace(':', "%3a"));
            let begins = format!("{name}_{version}_");
            let found = entries(&archives)?.into_iter().find(|path| {
                path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&begins))
            });
            found.with_context(|| format!("apt-get downloaded no {begins}"))
        });
        files.collect()
    }

    /// One of the programs of apt, which knows nothing of the machine's packages.
    fn apt(&self, program: &str) -> Command {
        let folder = self.folder.display();
        let mut apt = Command::new(program);
        apt.env("LC_ALL", "C").env_remove("APT_CONFIG");
        for option in [
            format!("Dir::State={folder}"),
            format!("Dir::State::status={folder}/status"),
            format!("Dir::State::Lists={folder}/lists"),
            format!("Dir::Cache={folder}/cache"),
            // Images for containers turn them off, and apt reads every list for every question.
            "Dir::Cache::pkgcache=pkgcache.bin".into(),
            "Dir::Cache::srcpkgcache=srcpkgcache.bin".into(),
            format!("Dir::Etc::SourceList={folder}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".into(),
            "Dir::Etc::Preferences=/dev/null".into(),
            "Dir::Etc::PreferencesParts=/dev/null".into(),
            format!("APT::Architecture={}", self.arch.debian()),
            format!("APT::Architectures={}", self.arch.debian()),
            format!("APT::Default-Release={}", self.release),
            "APT::Sandbox::User=root".into(),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            "Acquire::Retries=3".into(),
            // Lists of which some are of yesterday are not fresh.
            "APT::Update::Error-Mode=any".into(),
            "Binary::apt-get::APT::Keep-Downloaded-Packages=true".into(),
            "APT::Keep-Downloaded-Packages=true".into(),
            "DPkg::Post-Invoke::=true".into(),
            "Debug::NoLocking=true".into(),
        ] {
            apt.arg("--option").arg(option);
        }
        apt
    }

    /// Reads the archive's lists, and notes that they are of today.
    fn update(&self) -> Result<()> {
        say(format_args!("debian: reading the lists of {}", self.arch.debian()));
        succeed(self.apt("apt-get").args(["-qq", "update"]))?;
        self.write("updated", "")
    }

    /// Whether the lists are of today.
    fn is_fresh(&self) -> bool {
        let age = fs::metadata(self.folder.join("updated"))
            .and_then(|file| file.modified())
            .map(|time| time.elapsed().unwrap_or_default());
        age.is_ok_and(|age| age < FRESH)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.folder.join(name), text).with_context(|| name.to_owned())
    }

    fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.folder.join(name)).with_context(|| name.to_owned())
    }
}

/// Unpacks packages into a folder, through links in it. No script of theirs is run.
pub(crate) fn unpack(packages: &[PathBuf], into: &Path) -> Result<()> {
    fs::create_dir_all(into).with_context(|| into.display().to_string())?;
    packages.iter().try_for_each(|package| {
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped());
        let mut dpkg = dpkg.spawn().context("dpkg-deb")?;
        let archive = dpkg.stdout.take().context("dpkg-deb")?;
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--directory"]);
        succeed(tar.arg(into).stdin(archive))?;
        let status = dpkg.wait().context("dpkg-deb")?;
        ensure!(status.success(), "{}: {status}", package.display());
        Ok(())
    })
}

/// Where packages come from.
#[derive(Debug)]
struct Sources {
    /// As apt reads them.
    text: String,
    archive: String,
    release: String,
}

/// The sources of every release, from where the machine's own come, and the machine's release.
fn sources() -> Result<Sources> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"]);
    let known = said(&mut apt).context("this needs a Debian, whose archive it uses")?;
    let known: Vec<(&str, &str)> = known.lines().filter_map(|it| it.split_once(' ')).collect();
    let found = known.iter().find(|(_, name)| RELEASES.contains(name));
    let Some((archive, release)) = found else {
        bail!("apt knows none of Debian's releases {}; try apt-get update", RELEASES.join(", "))
    };
    let of_security = format!("{release}-security");
    let security = known.iter().find(|(_, name)| *name == of_security).map(|(uri, _)| *uri);
    let keys = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg";
    let of_release = |release: &str| {
        let main = format!("deb [{keys}] {archive} {release} main\n");
        let updates = security.filter(|_| release != UNRELEASED);
        let updates = updates.map(|uri| format!("deb [{keys}] {uri} {release}-security main\n"));
        main + &updates.unwrap_or_default()
    };
    let text = RELEASES.map(of_release).concat();
    Ok(Sources { text, archive: (*archive).to_owned(), release: (*release).to_owned() })
}

/// The names in a field of dependencies; of alternatives the first.
fn names(field: &str) -> Vec<String> {
    field.split(", ").map(|name| before(name, ' ').to_owned()).collect()
}

/// What stands before the first of a character.
fn before(text: &str, end: char) -> &str {
    text.split_once(end).map_or(text, |(before, _)| before)
}

/// What is in a folder.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Runs a program to its end.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_owned();
    let status = command.status().with_context(|| name.display().to_string())?;
    ensure!(status.success(), "{}: {status}", shown(command, &name));
    Ok(())
}

/// What a program says.
pub(crate) fn said(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_owned();
    let output = command.output().with_context(|| name.display().to_string())?;
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "{}: {}: {why}", shown(command, &name), output.status);
    String::from_utf8(output.stdout).with_context(|| name.display().to_string())
}

/// A program with the last of its arguments, which says what it was to do.
fn shown(command: &Command, name: &OsStr) -> String {
    let last = command.get_args().last().unwrap_or_default();
    format!("{} … {}", name.display(), last.display())
}

#[cfg(test)]
mod tests {
    use super::{before, names};

    #[test]
    fn a_dependency_is_named_without_its_version_and_its_alternatives() {
        let field = "kmod, linux-base (>= 4.3~), dracut | initramfs-tools (>= 0.120)";
        assert_eq!(names(field), ["kmod", "linux-base", "dracut"]);
    }

    #[test]
    fn a_text_without_the_end_is_all_before_it() {
        assert_eq!((before("a:b", ':'), before("a", ':')), ("a", "a"));
    }
}
