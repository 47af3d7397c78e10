//! How programs are built that need no library of the machine: Rust's musl targets, and a C compiler
//! for the part of aws-lc that is C.
//!
//! *Standing*: `dist` and `vm` build by [`Static`]. *Never*: puts a path of this machine into what it
//! builds.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::arch::Arch;
use crate::built::Built;
use crate::debian::{self, Debian, said, succeed};
use crate::say::say;
use crate::setup::{apt_get, find, sysroot};
use crate::workspace::Workspace;

/// What separates flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\u{1f}";

/// The means to build static programs of one architecture.
#[derive(Debug)]
pub(crate) struct Static {
    arch: Arch,
    variables: Vec<(String, OsString)>,
}

impl Static {
    /// Finds or installs the means.
    pub(crate) fn prepare(workspace: &Workspace, arch: Arch) -> Result<Self> {
        add_target(workspace, arch)?;
        // What allocates there is built by it (`docs/decisions/0016-an-allocator-beside-musl.md`).
        require("make", "make")?;
        let mut variables = vec![("CARGO_ENCODED_RUSTFLAGS".to_owned(), flags(workspace)?)];
        if arch == Arch::Arm {
            // The largest pages that a kernel there has (64 KiB, arm64's Kconfig), wherever it is built.
            variables.push(("JEMALLOC_SYS_WITH_LG_PAGE".to_owned(), "16".into()));
        }
        if arch.is_host() {
            require("musl-gcc", "musl-tools")?;
        } else {
            variables.extend(cross(workspace, arch)?);
        }
        Ok(Self { arch, variables })
    }

    /// Builds with the given cargo arguments.
    pub(crate) fn build(&self, workspace: &Workspace, args: &[&str]) -> Result<Built> {
        let mut cargo = workspace.cargo();
        cargo.args(["build", "--quiet", "--target", self.arch.triple()]).args(args);
        cargo.env_remove("RUSTFLAGS").envs(self.variables.iter().map(|(name, to)| (name, to)));
        Built::by(cargo)
    }
}

/// The flags that keep the paths of this machine out of what is built, so that it is the same from
/// every checkout.
fn flags(workspace: &Workspace) -> Result<OsString> {
    let home = std::env::var_os("CARGO_HOME").map(Into::into).or_else(|| {
        let home = std::env::home_dir()?;
        Some(home.join(".cargo"))
    });
    let mut flags = OsString::from("--remap-path-prefix=");
    flags.push(workspace.root());
    flags.push("=.");
    if let Some(home) = home {
        flags.push(SEPARATOR);
        flags.push("--remap-path-prefix=");
        flags.push(home.join("registry/src"));
        flags.push("=registry");
    }
    // Where the library's source is there, the compiler names it as it lies here.
    flags.push(SEPARATOR);
    flags.push("--remap-path-prefix=");
    flags.push(sysroot(workspace)?.join("lib/rustlib/src/rust"));
    flags.push("=rust");
    Ok(flags)
}

/// Adds Rust's own part of a target.
fn add_target(workspace: &Workspace, arch: Arch) -> Result<()> {
    let triple = arch.triple();
    if sysroot(workspace)?.join("lib/rustlib").join(triple).join("lib").is_dir() {
        return Ok(());
    }
    say(format_args!("musl: adding {triple} to the toolchain"));
    let mut rustup = Command::new("rustup");
    succeed(rustup.args(["target", "add", triple]).current_dir(workspace.root()))
}

/// A compiler for another architecture: Debian's, which is made for another C library, with the
/// headers of this one. Rust links by itself.
fn cross(workspace: &Workspace, arch: Arch) -> Result<Vec<(String, OsString)>> {
    let prefix = format!("{arch}-linux-gnu");
    let compiler = format!("{prefix}-gcc");
    require(&compiler, &format!("gcc-{}-linux-gnu", arch.of_package()))?;
    let own = said(Command::new(&compiler).arg("-print-file-name=include"))?;
    let debian = Debian::open(workspace, arch)?;
    let packages = debian.download(&["musl-dev".to_owned(), "linux-libc-dev".to_owned()])?;
    let folder = workspace.target().join("debian").join(arch.debian()).join("musl");
    debian::unpack(&packages, &folder)?;
    let include = folder.join("usr/include");
    let mut flags = OsString::from(format!("-nostdinc -isystem {}", own.trim()));
    let folders = [format!("{arch}-linux-musl"), prefix.clone(), String::new()];
    for folder in folders {
        flags.push(" -isystem ");
        flags.push(include.join(folder));
    }
    // What asks whether a program can be linked (jemalloc's configure does) links with this library.
    let libraries = folder.join("usr/lib").join(format!("{arch}-linux-musl"));
    for option in [" -B", " -L"] {
        flags.push(option);
        flags.push(&libraries);
    }
    let name = arch.triple().replace('-', "_");
    Ok(vec![
        (format!("CC_{name}"), compiler.into()),
        (format!("AR_{name}"), format!("{prefix}-ar").into()),
        (format!("CFLAGS_{name}"), flags),
        (format!("CARGO_TARGET_{}_LINKER", name.to_uppercase()), "rust-lld".into()),
    ])
}

/// Makes sure of a program, which root on a Debian may install.
pub(crate) fn require(program: &str, package: &str) -> Result<()> {
    if find(program).is_none() && nix::unistd::Uid::effective().is_root() {
        say(format_args!("setup: apt-get install {package}"));
        let _is_installed = apt_get(&["update"]) && apt_get(&["install", package]);
    }
    find(program).map(drop).with_context(|| format!("{program}: apt-get install {package}"))
}
