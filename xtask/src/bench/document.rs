//! Writes a result between its markers in the document, and touches nothing else there.

use std::fs;
use std::io::{self, Write as _};

use anyhow::{Context as _, Result};

use crate::say::say;
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
    let path = workspace.root().join(DOCUMENT);
    let text = fs::read_to_string(&path).context(DOCUMENT)?;
    let text = replaced(&text, name, result)
        .with_context(|| format!("{DOCUMENT} has no place for {name}"))?;
    fs::write(&path, text).context(DOCUMENT)?;
    say(format_args!("bench: written into {DOCUMENT}"));
    Ok(())
}

/// The text with what stands between the markers of a name replaced.
fn replaced(text: &str, name: &str, result: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{result}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn only_what_stands_between_the_markers_changes() {
        let text = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n";
        assert_eq!(replaced(text, "x", "new\n").unwrap(), text.replace("old", "new"));
    }

    #[test]
    fn without_markers_nothing_is_written() {
        assert_eq!(replaced("<!-- y -->\n<!-- /y -->\n", "x", "new\n"), None);
    }
}
