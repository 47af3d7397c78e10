//! Builds the kernel half and hands it to `jail::kernel` as bytes.
//!
//! bpf-linker is looked for in `tools/bin` of the target folder (`CARGO_TARGET_DIR` too), where
//! `cargo xtask setup` installs it, then in that of the workspace's own `target`, then in `PATH`, for
//! `cargo install`: any version may be there, so the build says so. Without it the object is empty and
//! `kernel_half_stub` is set: everything compiles, lints and tests, and loading says what to do.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

/// The crate of the kernel half, and the file that it is built to.
const KERNEL_HALF: &str = "boundary-ebpf";

fn main() -> Result<()> {
    let workspace = Path::new("..");
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    say("cargo::rustc-check-cfg=cfg(kernel_half_stub)");
    say("cargo::rerun-if-env-changed=RUSTUP_TOOLCHAIN");
    // aya-build watches the package itself; this is what it is made from besides.
    watch(&workspace.join("boundary-common"));
    watch(&workspace.join("rust-toolchain.toml"));
    watch(&workspace.join("Cargo.lock"));
    match linker(&out, workspace) {
        Some(linker) => {
            watch(&linker);
            build(&fs::canonicalize(linker)?)
        }
        None => stub(&out),
    }
}

/// Finds the linker: the target folder is some way above the folder that cargo gave us.
fn linker(out: &Path, workspace: &Path) -> Option<PathBuf> {
    let target = workspace.join("target");
    let folders = out.ancestors().skip(1).take(6).chain([target.as_path()]);
    let own = folders.map(|folder| folder.join("tools/bin/bpf-linker")).find(|it| it.is_file());
    own.or_else(linker_in_path)
}

/// Finds one that somebody has installed for themselves, and says which.
fn linker_in_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let linker = env::split_paths(&path).map(|it| it.join("bpf-linker")).find(|it| it.is_file())?;
    say(&format!("cargo::warning=the kernel half is linked by {}", linker.display()));
    Some(linker)
}

/// Builds the kernel half with the toolchain that builds this half.
fn build(linker: &Path) -> Result<()> {
    let folder = linker.parent().context("the linker has no folder")?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([folder.to_path_buf()].into_iter().chain(env::split_paths(&path)))?;
    // rustup sets it for everything that it starts; without rustup aya-build takes what is there.
    let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "stable".to_owned());
    set("PATH", path.as_os_str());
    // The core library for the kernel's target is built on the spot, which stable calls unstable.
    set("RUSTC_BOOTSTRAP", "1".as_ref());
    // Nor has it a stable way to keep the paths of this machine out of the object.
    set("CARGO_UNSTABLE_TRIM_PATHS", "true".as_ref());
    set("CARGO_PROFILE_RELEASE_TRIM_PATHS", "all".as_ref());
    // aya-build shows every line of the build as a warning: leave the warnings.
    set("CARGO_TERM_QUIET", "true".as_ref());
    // See `jail::mutation`.
    let is_mutable = env::var_os("CARGO_FEATURE_MUTATIONS").is_some();
    let features: &[&str] = if is_mutable { &["mutations"] } else { &[] };
    let root_dir = "../boundary-ebpf";
    let package = Package { name: KERNEL_HALF, root_dir, features, ..Package::default() };
    aya_build::build_ebpf([package], Toolchain::Custom(&toolchain))
        .context("the kernel half does not build")
}

/// Leaves an empty object that nothing can load, and looks for the linker again the next time.
fn stub(out: &Path) -> Result<()> {
    say("cargo::rustc-cfg=kernel_half_stub");
    say("cargo::warning=built without the kernel half: run `cargo xtask setup` for bpf-linker");
    watch(&out.join("never written"));
    fs::write(out.join(KERNEL_HALF), []).context("the empty object cannot be written")
}

/// Runs this again when the file or folder changes.
fn watch(path: &Path) {
    say(&format!("cargo::rerun-if-changed={}", path.display()));
}

/// Tells cargo.
fn say(line: &str) {
    println!("{line}");
}

/// Sets a variable for the build that aya-build starts; it takes no other way.
#[expect(unsafe_code, reason = "set_var races with other threads, and there are none yet")]
#[expect(clippy::disallowed_methods, reason = "as above")]
fn set(name: &str, value: &std::ffi::OsStr) {
    // SAFETY: A build script has one thread until it starts others, and this one has not.
    unsafe { env::set_var(name, value) }
}
