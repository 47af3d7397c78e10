//! The law of dependencies, the lints that may be put aside and the invariants, read out of
//! `docs/architecture.md` and held against the sources.

use std::collections::{BTreeMap, BTreeSet};

use super::LAW;
use super::source::{Source, Use};
use super::table::{self, Row};
use super::tree::{Fault, Tree};

/// The modules that the law is about.
const MODULES: &str = "boundary/src/";

/// What one module may use of another.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Items {
    /// All of it.
    All,
    /// Only these.
    Only(BTreeSet<String>),
}

/// What each module may use.
type Law = BTreeMap<String, BTreeMap<String, Items>>;

/// Every fault against the document.
pub(crate) fn check(tree: &Tree) -> Vec<Fault> {
    let Some(text) = tree.text(LAW) else {
        return vec![Fault::at(LAW, 1, "there is no law: the document is missing")];
    };
    let mut faults = Vec::new();
    let mut table = |head: &[&str]| {
        table::rows(text, head).unwrap_or_else(|| {
            faults.push(Fault::at(LAW, 1, format!("no table `{}`", head.join(" | "))));
            Vec::new()
        })
    };
    let modules = table(&["module", "may use"]);
    let lints = table(&["lint", "may be put aside in"]);
    let invariants = table(&["", "holds", "type", "test"]);
    faults.extend(check_uses(tree, &modules));
    faults.extend(check_lints(tree, &lints));
    faults.extend(check_invariants(tree, &invariants));
    faults
}

/// Every use that the law does not grant, every module without a row and every row without a
/// module.
fn check_uses(tree: &Tree, rows: &[Row<'_>]) -> Vec<Fault> {
    let law: Law = rows.iter().filter_map(grants).collect();
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.starts_with(MODULES)) {
        let Some(module) = module_of(path) else { continue };
        let Some(own) = module.first() else { continue };
        if seen.insert(own.clone()) && !law.contains_key(own) {
            faults.push(Fault::at(path, 1, format!("`{own}` has no row in {LAW}")));
        }
        let Ok(source) = Source::read(text, &module) else { continue };
        if is_test_file(tree, path) {
            continue;
        }
        let against = source.uses.iter().filter_map(|used| breach(&law, own, used));
        faults.extend(against.map(|(line, what)| Fault::at(path, line, what)));
    }
    let stale = rows.iter().filter(|row| row.name(0).is_none_or(|name| !seen.contains(name)));
    faults.extend(
        stale.map(|row| Fault::at(LAW, row.line, format!("there is no module {}", row.cell(0)))),
    );
    faults
}

/// What one row grants. A module may always use itself.
fn grants(row: &Row<'_>) -> Option<(String, BTreeMap<String, Items>)> {
    let own = row.name(0)?.to_owned();
    let mut granted = BTreeMap::from([(own.clone(), Items::All)]);
    let mut parts = row.cell(1).split('`').skip(1);
    while let (Some(name), Some(after)) = (parts.next(), parts.next()) {
        let only = after.strip_prefix('(').and_then(|list| list.split_once(')'));
        let items = only.map_or(Items::All, |(list, _)| {
            Items::Only(list.split(',').map(|item| item.trim().to_owned()).collect())
        });
        granted.insert(name.to_owned(), items);
    }
    Some((own, granted))
}

/// Why a use is against the law, with its line; nothing if it is not.
fn breach(law: &Law, own: &str, used: &Use) -> Option<(usize, String)> {
    let Some(module) = used.path.first() else {
        return Some((used.line, "the crate's root is used under another name".to_owned()));
    };
    let item = used.path.get(1);
    let granted = law.get(own)?.get(module);
    let is_granted = granted.is_some_and(|items| match items {
        Items::All => true,
        Items::Only(listed) => item.is_some_and(|item| listed.contains(item)),
    });
    let what = used.path.join("::");
    (!is_granted).then(|| (used.line, format!("`{own}` may not use `{what}`")))
}

/// The module that a file of the library is; nothing for the program, which may use all.
pub(crate) fn module_of(path: &str) -> Option<Vec<String>> {
    let inside = path.strip_prefix(MODULES)?.strip_suffix(".rs")?;
    let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    match inside {
        "main" => None,
        "lib" => Some(Vec::new()),
        _ => Some(module),
    }
}

/// Whether a file is a module that its parent compiles only for tests, or lies in one.
pub(crate) fn is_test_file(tree: &Tree, path: &str) -> bool {
    let Some((folder, file)) = path.rsplit_once('/') else { return false };
    let name = file.trim_end_matches(".rs");
    let inside = |parent: String, name: &str| {
        let text = tree.text(&parent).unwrap_or_default();
        Source::read(text, &[]).is_ok_and(|source| source.test_modules.iter().any(|m| m == name))
    };
    let parents = ["mod.rs", "lib.rs", "main.rs"].map(|parent| format!("{folder}/{parent}"));
    let beside = format!("{folder}.rs");
    parents.into_iter().chain([beside]).any(|parent| parent != path && inside(parent, name))
        || (folder.contains('/') && is_test_file(tree, folder))
}

/// Every lint that is put aside where the document does not say that it may be.
fn check_lints(tree: &Tree, rows: &[Row<'_>]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in tree.ending(".rs") {
        let Ok(source) = Source::read(text, &[]) else { continue };
        for (line, lint) in source.lints {
            let places = rows.iter().filter(|row| row.name(0) == Some(lint.as_str()));
            let mut places = places.map(|row| table::names(row.cell(1))).peekable();
            let is_kept = places.peek().is_some();
            let is_place = places.flatten().any(|place| path.starts_with(place));
            if is_kept && !is_place {
                faults.push(Fault::at(path, line, format!("`{lint}` may not be put aside here")));
            }
        }
    }
    faults
}

/// Every invariant that names no test, or one that is not there.
fn check_invariants(tree: &Tree, rows: &[Row<'_>]) -> Vec<Fault> {
    let functions: BTreeSet<String> = tree
        .ending(".rs")
        .filter_map(|(_, text)| Source::read(text, &[]).ok())
        .flat_map(|source| source.functions)
        .collect();
    let mut faults = Vec::new();
    for row in rows {
        let missing = table::names(row.cell(3)).filter(|name| {
            let function = name.rsplit("::").next().unwrap_or(name);
            !functions.contains(function)
        });
        faults.extend(missing.map(|name| Fault::at(LAW, row.line, format!("no test `{name}`"))));
        if row.cell(3).is_empty() {
            faults.push(Fault::at(LAW, row.line, format!("{} has no test", row.cell(0))));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::{check, module_of};
    use crate::tidy::tree::Tree;

    const DOCUMENT: &str = "\
| module | may use | never |
|---|---|---|
| `audit` | `rules`(Permit, Code) | |
| `rules` | | |

| lint | may be put aside in |
|---|---|
| `unsafe_code` | `boundary/src/sys/`, `tests/` |

| | holds | type | test |
|---|---|---|---|
";

    fn faults(files: &[(&str, &str)]) -> Vec<String> {
        let mut all = vec![
            ("docs/architecture.md", DOCUMENT),
            ("boundary/src/rules/mod.rs", "#[cfg(test)]\nmod tests;"),
            ("boundary/src/audit/mod.rs", ""),
        ];
        all.retain(|(path, _)| files.iter().all(|(other, _)| path != other));
        all.extend(files);
        check(&Tree::of(&all)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_module_may_use_what_is_listed_and_itself() {
        let text = "use crate::rules::{Code, Permit};\nuse super::sink::A;";
        assert_eq!(faults(&[("boundary/src/audit/sink.rs", text)]), [""; 0]);
    }

    #[test]
    fn what_is_not_listed_of_a_module_is_a_fault() {
        let text = "use crate::rules::RuleSet;\nuse crate::rules;\nuse crate::rules::*;";
        let found = faults(&[("boundary/src/audit/sink.rs", text)]);
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn a_module_without_a_row_is_a_fault() {
        let found = faults(&[("boundary/src/extra.rs", "")]);
        assert!(found[0].contains("`extra` has no row"), "{found:?}");
    }

    #[test]
    fn a_row_without_a_module_is_a_fault() {
        let document = DOCUMENT.replace("| `rules` |", "| `gone` | | |\n| `rules` |");
        let found = faults(&[("docs/architecture.md", &document)]);
        assert!(found[0].contains("there is no module `gone`"), "{found:?}");
    }

    #[test]
    fn a_test_module_in_a_file_of_its_own_may_use_more() {
        let text = "use crate::audit::Recorder;";
        assert_eq!(faults(&[("boundary/src/rules/tests.rs", text)]), [""; 0]);
        assert_eq!(faults(&[("boundary/src/rules/other.rs", text)]).len(), 1);
    }

    #[test]
    fn a_lint_is_put_aside_only_where_the_document_says() {
        let text = "#![expect(unsafe_code, reason = \"r\")]";
        assert_eq!(faults(&[("tests/attack/main.rs", text)]), [""; 0]);
        assert_eq!(faults(&[("boundary/src/rules/mod.rs", text)]).len(), 1);
    }

    #[test]
    fn an_invariant_without_a_test_is_a_fault() {
        let found = faults(&[("docs/architecture.md", &format!("{DOCUMENT}| I1 | x | `T` | |\n"))]);
        assert!(found[0].contains("I1 has no test"), "{found:?}");
    }

    #[test]
    fn files_are_modules() {
        let module = |path: &str| module_of(path).map(|module| module.join("::"));
        assert_eq!(module("boundary/src/proxy/mod.rs").as_deref(), Some("proxy"));
        assert_eq!(module("boundary/src/proxy/http.rs").as_deref(), Some("proxy::http"));
        assert_eq!(module("boundary/src/main.rs"), None);
    }
}
