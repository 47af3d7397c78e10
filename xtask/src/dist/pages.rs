//! What a program says of itself for others to read: completions for shells, and manual pages.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::archive::Entry;
use crate::debian::{entries, said, succeed};

/// Where Debian has the completions of each shell.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "bash-completion/completions/boundary"),
    ("fish", "fish/vendor_completions.d/boundary.fish"),
    ("zsh", "zsh/vendor-completions/_boundary"),
];

/// Everything that goes into `share`, by the program of this machine; they are the same on all.
pub(super) fn pages(program: &Path, scratch: &Path) -> Result<Vec<Entry>> {
    let mut pages = Vec::new();
    for (shell, path) in COMPLETIONS {
        let bytes = said(Command::new(program).args(["completions", shell]))?.into_bytes();
        pages.push(Entry { path: format!("share/{path}"), bytes, mode: 0o644 });
    }
    fs::create_dir_all(scratch).context("manual pages")?;
    succeed(Command::new(program).arg("man").arg(scratch))?;
    for page in entries(scratch)? {
        let name = page.file_name().context("no name")?.to_string_lossy().into_owned();
        let bytes = fs::read(&page).with_context(|| name.clone())?;
        pages.push(Entry { path: format!("share/man/man1/{name}"), bytes, mode: 0o644 });
    }
    fs::remove_dir_all(scratch).context("manual pages")?;
    Ok(pages)
}
