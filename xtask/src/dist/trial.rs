//! Tries what was built as somebody who has nothing yet: in a new root of Debian, installed by its own
//! package manager and by the installer, run, and taken away again.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::Uid;

use super::Release;
use crate::arch::Arch;
use crate::debian::{Debian, entries, said, succeed};
use crate::musl::require;
use crate::say::say;

/// Tries the package and the archive of this machine's architecture.
pub(super) fn try_all(release: &Release<'_>, arch: Arch) -> Result<()> {
    ensure!(Uid::effective().is_root(), "a root of Debian is made by root");
    require("debootstrap", "debootstrap")?;
    let root = Root::make(release, arch)?;
    root.try_package(release, arch)?;
    try_rpm(release, arch)?;
    root.try_installer(release)?;
    root.try_damage(arch)
}

/// Has rpm check the sums of the other package, install it in a new root, and compare what is there.
fn try_rpm(release: &Release<'_>, arch: Arch) -> Result<()> {
    require("rpm", "rpm")?;
    let root = release.workspace.target().join("debian").join(arch.debian()).join("rpm-root");
    if root.exists() {
        fs::remove_dir_all(&root).context("rpm-root")?;
    }
    let package = release.folder.join(format!("boundary-{}-1.{arch}.rpm", release.version));
    let rpm = |words: &[&str]| {
        let mut rpm = Command::new("rpm");
        rpm.arg("--root").arg(&root).args(words).env("LC_ALL", "C");
        rpm
    };
    let checked = said(rpm(&["--checksig", "--verbose"]).arg(&package))?;
    for sum in ["Header SHA256 digest: OK", "Payload SHA256 digest: OK"] {
        ensure!(checked.contains(sum), "rpm does not find {sum}: {checked}");
    }
    // Debian's rpm knows of no package of this machine, and so of no shell for scripts: there is none.
    said(rpm(&["--install", "--nodeps", "--noscripts"]).arg(&package))?;
    let differs = said(&mut rpm(&["--verify", "--nodeps", "boundary"]))?;
    ensure!(differs.is_empty(), "what rpm installed is not what it lists: {differs}");
    let program = root.join("usr/bin/boundary");
    let says = said(Command::new(&program).arg("--version"))?;
    ensure!(says.trim().ends_with(&release.version), "it is of another version: {says}");
    said(&mut rpm(&["--erase", "--nodeps", "boundary"]))?;
    ensure!(!program.exists(), "the package stays when it is erased");
    fs::remove_dir_all(&root).context("rpm-root")?;
    say("dist: rpm finds the other package sound, installs it, and it goes");
    Ok(())
}

/// Makes a folder the root of everything, and runs what follows.
const PIVOT: &str = "root=$1; shift; mount --rbind \"$root\" \"$root\"; cd \"$root\"; \
                     mkdir -p .before; pivot_root . .before; umount -l /.before; rmdir /.before; \
                     cd /; exec \"$@\"";

/// A root of Debian, with what was built in `/dist`.
#[derive(Debug)]
struct Root(PathBuf);

impl Root {
    /// Makes a minimal one, or takes the one of the last time, which every trial leaves as it was.
    fn make(release: &Release<'_>, arch: Arch) -> Result<Self> {
        let target = release.workspace.target().join("debian").join(arch.debian());
        let root = target.join("root");
        if !root.join("etc/debian_version").exists() || target.join("root.unfinished").exists() {
            say("dist: making a root of Debian");
            let debian = Debian::open(release.workspace, arch)?;
            fs::write(target.join("root.unfinished"), "").context("root")?;
            let mut debootstrap = Command::new(crate::setup::find("debootstrap").context("none")?);
            debootstrap.args(["--variant=minbase", &format!("--arch={}", arch.debian())]);
            debootstrap.arg(debian.release()).arg(&root).arg(debian.archive());
            debootstrap.stdout(std::io::stderr());
            succeed(&mut debootstrap)?;
            fs::remove_file(target.join("root.unfinished")).context("root")?;
        }
        let dist = root.join("dist/latest/download");
        if dist.exists() {
            fs::remove_dir_all(&dist).context("dist")?;
        }
        fs::create_dir_all(&dist).context("dist")?;
        for path in entries(&release.folder)? {
            fs::copy(&path, dist.join(path.file_name().context("no name")?)).context("dist")?;
        }
        let none: Option<&str> = None;
        for (kind, place) in [("proc", "proc"), ("sysfs", "sys")] {
            mount(Some(kind), &root.join(place), Some(kind), MsFlags::empty(), none)
                .context(place)?;
        }
        Ok(Self(root))
    }

    /// A command in there, whose root it is as a machine's is: a program in a `chroot` may make no
    /// namespaces.
    fn run<I: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = I>) -> Command {
        let mut unshare = Command::new(crate::setup::find("unshare").unwrap_or("unshare".into()));
        unshare.args(["--mount", "--propagation", "private", "sh", "-ec", PIVOT, "sh"]);
        unshare.arg(&self.0).args(words);
        unshare.env_clear().env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        unshare.env("HOME", "/root");
        unshare
    }

    /// Installs the package, runs what it brought, and removes it.
    fn try_package(&self, release: &Release<'_>, arch: Arch) -> Result<()> {
        let version = &release.version;
        let package = format!("/dist/latest/download/boundary_{version}_{}.deb", arch.debian());
        said(&mut self.run(["dpkg", "--install", &package]))?;
        self.try_program("/usr/bin/boundary", version)?;
        for path in
            ["usr/share/man/man1/boundary.1", "usr/share/bash-completion/completions/boundary"]
        {
            ensure!(self.0.join(path).is_file(), "the package has no {path}");
        }
        said(&mut self.run(["dpkg", "--purge", "boundary"]))?;
        ensure!(!self.0.join("usr/bin/boundary").exists(), "the package stays when it is purged");
        say("dist: the package is installed, runs and goes");
        Ok(())
    }

    /// Has the installer install it, where nothing but the archive and its sum is.
    fn try_installer(&self, release: &Release<'_>) -> Result<()> {
        let line = "BOUNDARY_RELEASES=file:///dist sh /dist/latest/download/install.sh";
        said(&mut self.run(["sh", "-c", line]))?;
        self.try_program("/usr/local/bin/boundary", &release.version)?;
        fs::remove_file(self.0.join("usr/local/bin/boundary")).context("boundary")?;
        say("dist: the installer installs it, and it runs");
        Ok(())
    }

    /// Has the installer refuse an archive that is not what its sum says.
    fn try_damage(&self, arch: Arch) -> Result<()> {
        let archive = format!("dist/latest/download/boundary-linux-{}.tar.gz", arch.debian());
        fs::write(self.0.join(archive), "something else").context("dist")?;
        let line = "BOUNDARY_RELEASES=file:///dist sh /dist/latest/download/install.sh";
        let output = self.run(["sh", "-c", line]).output().context("install.sh")?;
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "a damaged archive was installed");
        ensure!(why.contains("is not what its sum says"), "refused, but not for its sum: {why}");
        let installed = self.0.join("usr/local/bin/boundary");
        ensure!(!installed.exists(), "a damaged archive was installed");
        say("dist: the installer refuses a damaged archive");
        Ok(())
    }

    /// Runs the program, and a command behind it that is refused.
    fn try_program(&self, program: &str, version: &str) -> Result<()> {
        let says = said(&mut self.run([program, "--version"]))?;
        ensure!(says.trim().ends_with(version), "{program} is of another version: {says}");
        let script =
            "exec 3<>/dev/tcp/203.0.113.1/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
        let line = [program, "--jail-type", "nsjail", "--", "bash", "-c", script];
        let answer = said(&mut self.run(line))?;
        ensure!(answer.contains("Request Blocked by Boundary"), "the proxy is not there: {answer}");
        Ok(())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for place in ["sys", "proc"] {
            umount2(&self.0.join(place), MntFlags::MNT_DETACH).unwrap_or_default();
        }
        fs::remove_dir_all(self.0.join("dist")).unwrap_or_default();
    }
}
