//! What a guest finds when it boots: Debian's programs, its kernel's modules, boundary, its tests, and
//! what to do with them.
//!
//! The kernel takes several archives one after the other, so each part is packed when it changes.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::kernel::Kernel;
use crate::built::Built;
use crate::cpio::Cpio;
use crate::debian::{Debian, unpack};
use crate::say::say;
use crate::workspace::Workspace;

/// The packages of what the tests and the guest itself call.
const PACKAGES: &[&str] = &[
    "bash",
    "bubblewrap",
    "busybox-static",
    "coreutils",
    "curl",
    "dash",
    "diffutils",
    "findutils",
    "grep",
    "hostname",
    "iproute2",
    "kmod",
    "libc-bin",
    "libcap2-bin",
    "login",
    "mawk",
    "mount",
    "netbase",
    "netcat-openbsd",
    "passwd",
    "procps",
    "python3",
    "sed",
    "strace",
    "util-linux",
    "wget",
];

/// What of the packages no program here reads, as paths begin.
const IDLE: &[&str] = &[
    "usr/include",
    "usr/lib/python3/dist-packages",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl",
    "usr/share/zoneinfo",
    "var/lib",
];

/// Links that a package makes when it is installed.
const LINKS: &[(&str, &str)] = &[
    ("usr/bin/awk", "mawk"),
    ("usr/bin/nc", "nc.openbsd"),
    ("usr/bin/which", "which.debianutils"),
];

/// Files that somebody who installs Debian gets.
const FILES: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/hostname", "guest\n"),
    ("etc/resolv.conf", ""),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
];

/// What a guest does when it has booted.
const INIT: &str = include_str!("init.sh");

/// Puts a guest together: the programs of Debian, the modules of a kernel, boundary and its tests.
pub(super) fn pack(
    workspace: &Workspace,
    debian: &Debian,
    kernel: &Kernel,
    built: &Built,
    runs: &str,
) -> Result<PathBuf> {
    let folder = workspace.target().join("vm").join(debian.arch().name());
    fs::create_dir_all(&folder).context("target/vm")?;
    let userland = userland(debian, &folder)?;
    let initramfs = folder.join(format!("{}.cpio", kernel.release));
    let mut into = File::create(&initramfs).context("initramfs")?;
    io::copy(&mut File::open(&userland)?, &mut into).context("initramfs")?;
    let mut cpio = Cpio::new(BufWriter::new(into));
    cpio.tree(&kernel.modules, &|_| false)?;
    for program in [built.program("boundary")?, built.program("attack")?, built.program("hand")?] {
        add(&mut cpio, program, &folder)?;
    }
    add(&mut cpio, built.runner("journey")?, &folder)?;
    cpio.folder("vm", 0o755)?;
    cpio.file("vm/runs", 0o644, runs.as_bytes())?;
    cpio.file("init", 0o755, INIT.as_bytes())?;
    cpio.finish()?;
    Ok(initramfs)
}

/// Adds a program where it is on this machine too: the tests know their programs by these paths.
fn add<W: io::Write>(cpio: &mut Cpio<W>, program: &Path, scratch: &Path) -> Result<()> {
    cpio.way_to(program)?;
    let bytes = stripped(program, &scratch.join("stripped"))?;
    cpio.file(program.to_str().context("a path that is no text")?, 0o755, &bytes)
}

/// A program without what a debugger would read of it. One of another architecture was built so.
fn stripped(program: &Path, scratch: &Path) -> Result<Vec<u8>> {
    let mut strip = Command::new("strip");
    let status = strip.arg("--strip-debug").arg("-o").arg(scratch).arg(program);
    let status = status.stderr(Stdio::null()).status().context("strip, of binutils")?;
    if !status.success() {
        return fs::read(program).with_context(|| program.display().to_string());
    }
    let bytes = fs::read(scratch).context("strip")?;
    fs::remove_file(scratch).context("strip")?;
    Ok(bytes)
}

/// Debian's programs, packed.
fn userland(debian: &Debian, folder: &Path) -> Result<PathBuf> {
    let packages = debian.closure(PACKAGES)?;
    let names: Vec<String> = packages.iter().map(|path| path.display().to_string()).collect();
    let names = names.join("\n");
    let (archive, list) = (folder.join("userland.cpio"), folder.join("userland.list"));
    if archive.exists() && fs::read_to_string(&list).is_ok_and(|before| before == names) {
        return Ok(archive);
    }
    say(format_args!("vm: unpacking {} packages for the guest", packages.len()));
    let tree = folder.join("userland");
    if tree.exists() {
        fs::remove_dir_all(&tree).context("userland")?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(tree.join("usr").join(name)).context("userland")?;
        std::os::unix::fs::symlink(format!("usr/{name}"), tree.join(name)).context("userland")?;
    }
    unpack(&packages, &tree)?;
    pack_userland(&tree, &archive)?;
    fs::remove_dir_all(&tree).context("userland")?;
    fs::write(&list, names).context("userland")?;
    Ok(archive)
}

fn pack_userland(tree: &Path, archive: &Path) -> Result<()> {
    let mut cpio = Cpio::new(BufWriter::new(File::create(archive).context("userland")?));
    cpio.tree(tree, &|path| IDLE.iter().any(|idle| path.starts_with(idle)))?;
    for (path, target) in LINKS.iter().filter(|(path, _)| !tree.join(path).exists()) {
        cpio.link(path, target)?;
    }
    for (path, text) in FILES {
        cpio.file(path, 0o644, text.as_bytes())?;
    }
    for folder in ["dev", "proc", "sys", "run", "vm"] {
        cpio.folder(folder, 0o755)?;
    }
    cpio.folder("tmp", 0o1777)?;
    cpio.finish().map(drop)
}
