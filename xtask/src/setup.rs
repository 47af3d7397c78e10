//! Installs what a bare machine lacks, and says what it does; says nothing when nothing is missing.
//!
//! *Standing*: every task that builds calls [`setup`] first. *Never*: changes a tool that is not
//! the workspace's own, or removes anything.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Uid;

use crate::say::say;
use crate::workspace::Workspace;

/// A program that is installed into the workspace's own tools folder, at one version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
    /// How long the first installation takes, so that nobody thinks it hangs.
    takes: &'static str,
}

/// Links the kernel half.
const BPF_LINKER: Tool =
    Tool { name: "bpf-linker", version: "0.10.3", takes: "a minute or so, once" };

/// Checks licences, sources and duplicates; only `deny` needs it.
pub(crate) const CARGO_DENY: Tool =
    Tool { name: "cargo-deny", version: "0.20.2", takes: "a minute or so, once" };

/// Builds and runs the fuzzers; only `fuzz` needs it.
pub(crate) const CARGO_FUZZ: Tool =
    Tool { name: "cargo-fuzz", version: "0.13.2", takes: "half a minute, once" };

/// A tool runs for a second, or has its work done by a library or another program (LLVM, cargo), and a
/// bare machine waits for it to be built. So it is built without optimisation.
const QUICKLY_BUILT: [(&str, &str); 3] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
];

/// What the tests call, and the Debian package that has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("bwrap", "bubblewrap"),
    ("curl", "curl"),
    ("dbus-daemon", "dbus-daemon"),
    ("btrfs", "btrfs-progs"),
    ("dbus-send", "dbus-bin"),
    ("dig", "bind9-dnsutils"),
    ("git", "git"),
    ("gpg-agent", "gpg-agent"),
    ("h2load", "nghttp2-client"),
    ("ip", "iproute2"),
    ("mke2fs", "e2fsprogs"),
    ("musl-gcc", "musl-tools"),
    ("nc", "netcat-openbsd"),
    ("python3", "python3"),
    ("/usr/lib/python3/dist-packages/grpc/__init__.py", "python3-grpcio"),
    ("/usr/lib/python3/dist-packages/h2/__init__.py", "python3-h2"),
    ("/usr/lib/python3/dist-packages/httpx/__init__.py", "python3-httpx"),
    ("/usr/lib/python3/dist-packages/websockets/__init__.py", "python3-websockets"),
    ("rpm", "rpm"),
    ("runc", "runc"),
    ("setcap", "libcap2-bin"),
    ("ssh", "openssh-client"),
    ("strace", "strace"),
    ("sudo", "sudo"),
    ("tinyproxy", "tinyproxy-bin"),
    ("tmux", "tmux"),
    ("wget", "wget"),
    ("Xvfb", "xvfb"),
];

/// Servers that some tests start, and their Debian packages, which start one of their own when they
/// are installed: for a machine that is nobody's, where `CI` is set.
const SERVERS: &[(&str, &str)] = &[
    ("at", "at"),
    ("crontab", "cron"),
    ("initdb", "postgresql"),
    ("prometheus", "prometheus"),
    ("redis-server", "redis-server"),
    ("sshd", "openssh-server"),
    ("systemd-run", "systemd"),
];

/// Languages and libraries whose clients some tests run, and their Debian packages, which are large:
/// for a machine that is nobody's as well. A module is named by its file.
const LANGUAGES: &[(&str, &str)] = &[
    ("certutil", "libnss3-tools"),
    ("chromium", "chromium"),
    ("gnutls-cli", "gnutls-bin"),
    ("go", "golang-go"),
    ("java", "default-jdk-headless"),
    ("node", "nodejs"),
    ("openssl", "openssl"),
    ("perl", "perl"),
    ("php", "php-cli"),
    ("ruby", "ruby"),
    ("tstclnt", "libnss3-tools"),
    ("/usr/lib/python3/dist-packages/httpx/__init__.py", "python3-httpx"),
    ("/usr/lib/python3/dist-packages/requests/__init__.py", "python3-requests"),
    ("/usr/share/perl5/IO/Socket/SSL.pm", "libio-socket-ssl-perl"),
];

/// What `cargo xtask vm` boots kernels with, and their Debian packages: for a machine that is nobody's.
const EMULATOR: &[(&str, &str)] =
    &[("depmod", "kmod"), ("qemu-system-x86_64", "qemu-system-x86"), ("xz", "xz-utils")];

/// A toolchain component, and a file under the sysroot that is there when it is.
const COMPONENTS: [(&str, &str); 3] = [
    ("rust-src", "lib/rustlib/src/rust/library/core/src/lib.rs"),
    ("rustfmt", "bin/cargo-fmt"),
    ("clippy", "bin/cargo-clippy"),
];

/// Installs what is missing: toolchain components, the linker of the kernel half, Debian packages.
pub(crate) fn setup(workspace: &Workspace) -> Result<()> {
    components(workspace)?;
    install(workspace, BPF_LINKER)?;
    packages();
    Ok(())
}

/// Installs a tool unless that version of it is there and runs.
pub(crate) fn install(workspace: &Workspace, tool: Tool) -> Result<PathBuf> {
    let Tool { name, version, takes } = tool;
    let root = workspace.tools();
    let program = root.join("bin").join(name);
    if runs_as(&program, version) {
        return Ok(program);
    }
    say(format_args!("setup: installing {name} {version} into {} ({takes})", root.display()));
    let status = workspace
        .cargo()
        .args(["install", "--quiet", "--locked", "--force", name, "--version", version, "--root"])
        .arg(&root)
        // The flags of this workspace are no business of a tool's build.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .envs(QUICKLY_BUILT)
        .status()
        .with_context(|| format!("cargo install {name}"))?;
    ensure!(status.success(), "cargo install {name} {version}: {status}");
    ensure!(runs_as(&program, version), "{} is not {name} {version}", program.display());
    Ok(program)
}

/// Whether a program starts and says that it is of a version.
fn runs_as(program: &Path, version: &str) -> bool {
    let output = Command::new(program).arg("--version").stderr(Stdio::null()).output();
    output.is_ok_and(|output| {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success() && said.split_whitespace().any(|word| word == version)
    })
}

/// Adds the toolchain components that are missing, through rustup.
fn components(workspace: &Workspace) -> Result<()> {
    let sysroot = sysroot(workspace)?;
    let missing: Vec<&str> = COMPONENTS
        .iter()
        .filter(|(_, file)| !sysroot.join(file).exists())
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(format_args!("setup: adding to the toolchain: {}", missing.join(", ")));
    let status = Command::new("rustup")
        .args(["component", "add"])
        .args(&missing)
        .current_dir(workspace.root())
        .status()
        .context("rustup: the kernel half needs rust-src, which rustup installs")?;
    ensure!(status.success(), "rustup component add {}: {status}", missing.join(" "));
    Ok(())
}

/// The folder of the toolchain in use.
pub(crate) fn sysroot(workspace: &Workspace) -> Result<PathBuf> {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .current_dir(workspace.root())
        .output()
        .context("rustc --print sysroot")?;
    ensure!(output.status.success(), "rustc --print sysroot: {}", output.status);
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end()))
}

/// Installs the Debian packages that the tests lack, as root on a Debian; elsewhere says which
/// programs are missing. Not an error: the tests that need one say so themselves.
fn packages() {
    let missing: Vec<(&str, &str)> =
        wanted().filter(|(program, _)| find(program).is_none()).collect();
    if missing.is_empty() {
        return;
    }
    let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let lacking = format!("some tests need {}", programs.join(", "));
    if find("apt-get").is_none() {
        say(format_args!("setup: {lacking}; no apt-get here, install them by hand"));
    } else if !Uid::effective().is_root() {
        say(format_args!("setup: {lacking}; as root: apt-get install {}", packages.join(" ")));
    } else {
        say(format_args!("setup: apt-get install {}", packages.join(" ")));
        let installed = apt_get(&["update"]) && apt_get(&[&["install"], &*packages].concat());
        if !installed {
            say(format_args!("setup: apt-get failed; {lacking} and will say so"));
        }
    }
}

/// The programs that a test may count on after [`setup`]: those that are there, and as root on a
/// Debian all of them, because setup was to install them.
pub(crate) fn installed() -> impl Iterator<Item = &'static str> {
    let all = Uid::effective().is_root() && find("apt-get").is_some();
    wanted().map(|(program, _)| program).filter(move |name| all || find(name).is_some())
}

/// What this machine should have.
fn wanted() -> impl Iterator<Item = (&'static str, &'static str)> {
    let is_nobodys = env::var_os("CI").is_some();
    let more = [SERVERS, LANGUAGES, EMULATOR].into_iter().filter(move |_| is_nobodys).flatten();
    PROGRAMS.iter().chain(more).copied()
}

/// Runs apt-get without a question asked; whether it succeeded.
pub(crate) fn apt_get(args: &[&str]) -> bool {
    let status = Command::new("apt-get")
        .args(["-qq", "-y", "--no-install-recommends"])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // A service that a package brings is not started for it.
        .env("RUNLEVEL", "1")
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status();
    status.is_ok_and(|status| status.success())
}

/// A program in `PATH`, or in the folders that a user's `PATH` often lacks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let postgresql = versions.map(|version| version.path().join("bin"));
    let folders = env::split_paths(&path).chain(system).chain(postgresql);
    folders.map(|folder| folder.join(program)).find(|found| found.is_file())
}
