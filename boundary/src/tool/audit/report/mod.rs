//! `boundary audit report`: one page about what was asked, for whoever answers for it.
//!
//! *Standing*: a [`Ledger`] is filled from the files, [`page`] writes it down.
//! *Never*: refers to anything outside the page, or runs anything in it.

mod ledger;
mod page;
mod policy;
mod tables;
mod timeline;
mod tree;

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use jiff::Zoned;

use super::super::Error;
use super::{named, open, readable};
use crate::audit::file::{Sessions, files_of};
use crate::cli::Report;
use ledger::Ledger;

/// Makes the page that is asked for.
pub(super) fn report(asked: &Report) -> Result<(), Error> {
    let mut ledger = Ledger::default();
    let mut chain = Sessions::default();
    for path in named(&asked.files).flat_map(files_of) {
        chain.read_each(open(&path)?, |saved| ledger.take(saved)).map_err(readable(&path))?;
    }
    let page = page::page(&ledger, &chain, &Zoned::now()).into_string();
    if asked.output == Path::new("-") {
        return super::super::answer(page.as_bytes());
    }
    let written = write(&asked.output, page.as_bytes());
    written.map_err(|error| Error::Write { path: asked.output.clone(), error })
}

/// Writes a page that its owner alone may read: it names what was asked for.
fn write(path: &Path, page: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    // It may have been there, and anybody's to read.
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    file.write_all(page)
}
