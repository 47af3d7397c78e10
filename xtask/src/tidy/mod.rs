//! The architecture as a test, and the habits that no compiler checks.
//!
//! *Standing*: `.ci/run` and people call [`tidy`]; the law and the places where a lint may be put
//! aside are read out of `docs/architecture.md`, so that the document is the test. *Never*: knows
//! a rule about modules that does not stand there.

mod form;
mod law;
mod links;
mod places;
mod source;
mod table;
mod tree;

use std::process::ExitCode;

use anyhow::Result;

use crate::say::say;
use crate::workspace::Workspace;

use tree::{Fault, Tree};

/// Where the law stands.
const LAW: &str = "docs/architecture.md";

/// Checks the whole tree and names every fault with file and line.
pub(crate) fn tidy(workspace: &Workspace) -> Result<ExitCode> {
    let tree = Tree::read(workspace.root(), workspace.target())?;
    let mut faults = check(&tree);
    faults.extend(places::check(&tree, &places::of_this_machine(workspace.root())));
    faults.sort();
    for fault in &faults {
        say(format_args!("tidy: {fault}"));
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every fault that does not depend on the machine.
fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults = form::check(tree);
    faults.extend(links::check(tree));
    faults.extend(law::check(tree));
    faults
}

#[cfg(test)]
mod tests {
    use super::check;
    use super::tree::Tree;

    const ARCHITECTURE: &str = "\
# Architecture

| module | may use | never |
|---|---|---|
| `proxy` | `rules` | decides |
| `rules` | | I/O |

| lint | may be put aside in |
|---|---|
| `unsafe_code` | `boundary/src/sys/` |

| | holds | type | test |
|---|---|---|---|
| I1 | denied by default | `RuleSet` | `nothing_is_denied` |
";

    /// A small tree that is in order, with one file put in or replaced.
    fn faults_with(path: &str, text: &str) -> Vec<String> {
        let mut files = vec![
            ("docs/architecture.md", ARCHITECTURE),
            ("boundary/Cargo.toml", "[package]\nname = \"b\"\n\n[lints]\nworkspace = true\n"),
            ("boundary/src/lib.rs", "//! Map.\npub mod proxy;\npub mod rules;\n"),
            ("boundary/src/proxy/mod.rs", "//! Doors.\nuse crate::rules::Permit;\n"),
            (
                "boundary/src/rules.rs",
                "//! Rules.\n#[cfg(test)]\nmod tests {\n fn nothing_is_denied() {}\n}\n",
            ),
        ];
        files.retain(|(there, _)| *there != path);
        files.push((path, text));
        check(&Tree::of(&files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_tree_in_order_has_no_fault() {
        assert_eq!(faults_with("README.md", "# b\n"), [""; 0]);
    }

    #[test]
    fn a_use_against_the_law_fails_with_file_and_line() {
        let faults = faults_with(
            "boundary/src/rules.rs",
            "//! R.\n\nuse crate::proxy::Doors;\n\
             #[cfg(test)]\nmod tests { fn nothing_is_denied() {} }\n",
        );
        assert_eq!(faults, ["boundary/src/rules.rs:3: `rules` may not use `proxy::Doors`"]);
    }

    #[test]
    fn a_law_that_is_gone_fails() {
        let faults = faults_with("docs/architecture.md", "# Architecture\n");
        assert!(faults.iter().any(|fault| fault.contains("no table")), "{faults:?}");
    }

    #[test]
    fn an_invariant_names_a_test_that_is_there() {
        let faults = faults_with("boundary/src/rules.rs", "//! R.\n");
        assert_eq!(faults.len(), 1);
        assert!(faults[0].contains("nothing_is_denied"), "{faults:?}");
    }
}
