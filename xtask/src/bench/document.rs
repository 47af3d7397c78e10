//! Shows a result and puts it into the document.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};

use crate::document;
use crate::workspace::Workspace;

/// Where results stand.
const DOCUMENT: &str = "docs/performance.md";

/// Shows a result, and puts it into the document unless it is only to be shown.
pub(crate) fn publish(
    workspace: &Workspace,
    name: &str,
    result: &str,
    dry_run: bool,
) -> Result<()> {
    write!(io::stdout(), "{result}").context("standard output")?;
    if dry_run {
        return Ok(());
    }
    document::write(workspace, DOCUMENT, name, result)
}
