//! The kernels that Debian builds for machines in a cloud: found by their version, downloaded, and
//! unpacked with the modules that a guest may ask for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::debian::{Debian, entries, succeed, unpack};
use crate::musl::require;
use crate::say::say;
use crate::workspace::Workspace;

/// The folders of modules that a guest may ask for; drivers of hardware are of no use to it.
const MODULES: [&str; 8] = [
    "kernel/arch",
    "kernel/crypto",
    "kernel/drivers/block/loop.ko",
    "kernel/drivers/char/hw_random",
    "kernel/drivers/net",
    "kernel/fs",
    "kernel/lib",
    "kernel/net",
];

/// A kernel that can be booted.
#[derive(Debug)]
pub(super) struct Kernel {
    /// As `uname` says it.
    pub(super) release: String,
    /// The version of its package, which says what it is of.
    pub(super) version: String,
    /// What QEMU boots.
    pub(super) image: PathBuf,
    /// A folder with `usr/lib/modules/RELEASE`.
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// The newest that begins with a version, such as `6.1`.
    pub(super) fn newest(workspace: &Workspace, debian: &Debian, begins: &str) -> Result<Self> {
        let family = debian.arch().debian();
        let (version, depends) =
            debian.newest(&format!("linux-image-cloud-{family}"), &format!("{begins}."))?;
        let image = depends.into_iter().find(|name| name.starts_with("linux-image-"));
        let image = image.context("the newest kernel is no package")?;
        let release = image.trim_start_matches("linux-image-").to_owned();
        let folder = workspace.target().join("debian").join(family).join("kernels").join(&release);
        let kernel = Self {
            image: folder.join("vmlinuz"),
            modules: folder.join("modules"),
            release,
            version,
        };
        if !folder.join("complete").exists() {
            kernel.fetch(debian, &folder)?;
            fs::write(folder.join("complete"), "").context("a kernel's folder")?;
        }
        Ok(kernel)
    }

    /// Downloads and unpacks it. Since 7.2 image and modules are packages of their own.
    fn fetch(&self, debian: &Debian, folder: &Path) -> Result<()> {
        say(format_args!("vm: downloading Linux {}", self.version));
        let Self { release, version, .. } = self;
        let (_, depends) = debian.newest(&format!("linux-image-{release}"), version)?;
        let of_release = |name: &String| name.ends_with(&format!("-{release}"));
        let mut names: Vec<String> = depends.into_iter().filter(of_release).collect();
        names.push(format!("linux-image-{release}"));
        names.retain(|name| !name.starts_with("linux-base-"));
        let names: Vec<String> = names.iter().map(|name| format!("{name}={version}")).collect();
        let scratch = folder.join("unpacked");
        unpack(&debian.download(&names)?, &scratch)?;
        let places = ["lib/modules", "usr/lib/modules"].map(|place| scratch.join(place));
        let found = places.iter().map(|place| place.join(release)).find(|place| place.is_dir());
        let found = found.with_context(|| format!("{release} has no modules"))?;
        let images = [scratch.join(format!("boot/vmlinuz-{release}")), found.join("vmlinuz")];
        let image = images.iter().find(|image| image.is_file()).context("a kernel's image")?;
        fs::copy(image, &self.image).context("a kernel's image")?;
        self.keep_modules(&found)?;
        fs::remove_dir_all(&scratch).context("a kernel's folder")
    }

    /// Keeps the modules of use, unpacked, with the table of which needs which.
    fn keep_modules(&self, found: &Path) -> Result<()> {
        require("depmod", "kmod")?;
        let into = self.modules.join("usr/lib/modules").join(&self.release);
        for part in entries(found)?.iter().filter(|path| is_table(path)) {
            copy(part, &into.join(part.file_name().context("no name")?))?;
        }
        MODULES.iter().try_for_each(|part| copy_modules(&found.join(part), &into.join(part)))?;
        // depmod looks in lib.
        let lib = self.modules.join("lib");
        std::os::unix::fs::symlink("usr/lib", &lib).context("lib")?;
        let mut depmod = Command::new(crate::setup::find("depmod").context("depmod")?);
        succeed(depmod.arg("--basedir").arg(&self.modules).arg(&self.release))?;
        fs::remove_file(&lib).context("lib")
    }
}

/// Whether it is one of the tables that depmod reads.
fn is_table(path: &Path) -> bool {
    let tables = ["modules.builtin", "modules.builtin.modinfo", "modules.order"];
    path.file_name().is_some_and(|name| tables.iter().any(|table| name == *table))
}

/// Copies a module, or all below a folder; what is compressed is unpacked, since not every kernel can.
fn copy_modules(from: &Path, into: &Path) -> Result<()> {
    if from.is_dir() {
        for path in entries(from)? {
            copy_modules(&path, &into.join(path.file_name().context("no name")?))?;
        }
        return Ok(());
    }
    let packed = from.with_added_extension("xz");
    let (from, is_packed) = if from.is_file() {
        (from, from.extension() == Some("xz".as_ref()))
    } else {
        (&*packed, true)
    };
    if !from.is_file() {
        return Ok(());
    }
    if !is_packed {
        return copy(from, into);
    }
    let into = if into.extension() == Some("xz".as_ref()) {
        into.with_extension("")
    } else {
        into.to_path_buf()
    };
    fs::create_dir_all(into.parent().context("no folder")?).context("modules")?;
    let module = fs::File::create(&into).with_context(|| into.display().to_string())?;
    succeed(Command::new("xz").args(["--decompress", "--stdout"]).arg(from).stdout(module))
}

/// Copies a file, with the folders above it.
fn copy(from: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into.parent().context("no folder")?).context("modules")?;
    fs::copy(from, into).map(drop).with_context(|| from.display().to_string())
}
