//! Puts what was measured between its markers in a document, and touches nothing else there.

use std::fs;

use anyhow::{Context as _, Result};

use crate::say::say;
use crate::workspace::Workspace;

/// Replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->` in a document.
pub(crate) fn write(
    workspace: &Workspace,
    document: &'static str,
    name: &str,
    result: &str,
) -> Result<()> {
    let path = workspace.root().join(document);
    let text = fs::read_to_string(&path).context(document)?;
    let text = replaced(&text, name, result)
        .with_context(|| format!("{document} has no place for {name}"))?;
    fs::write(&path, text).context(document)?;
    say(format_args!("{name}: written into {document}"));
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
