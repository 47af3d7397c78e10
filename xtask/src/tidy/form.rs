//! The form of files: a header, a bound on their length, a name that says something, and manifests
//! that inherit the lints.

use super::law::{is_test_file, module_of};
use super::source::Source;
use super::tree::{Fault, Tree};

/// The longest that a file may be without its tests.
const LONGEST: usize = 500;

/// Names that say nothing about what is inside, and so gather everything.
const ATTICS: [&str; 8] =
    ["common", "helper", "helpers", "misc", "types", "util", "utilities", "utils"];

/// Every fault of form.
pub(crate) fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in tree.ending(".rs") {
        faults.extend(check_file(tree, path, text));
    }
    for (path, text) in tree.ending("Cargo.toml") {
        faults.extend(check_manifest(path, text));
    }
    faults
}

/// The faults of one Rust file.
fn check_file(tree: &Tree, path: &str, text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push(Fault::at(path, 1, "the file does not begin with `//!` and what it is"));
    }
    let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    let name = if name == "mod" { path.rsplit('/').nth(1).unwrap_or(name) } else { name };
    if ATTICS.contains(&name) {
        faults.push(Fault::at(path, 1, format!("`{name}` says nothing about what is inside")));
    }
    match Source::read(text, &module_of(path).unwrap_or_default()) {
        Ok(source) => {
            let lines = source.lines_without_tests(text);
            if lines > LONGEST && !is_test_file(tree, path) {
                faults.push(Fault::at(path, 1, format!("{lines} lines, more than {LONGEST}")));
            }
        }
        Err(error) => {
            faults.push(Fault::at(path, error.span().start().line, "this is not Rust"));
        }
    }
    faults
}

/// The fault of a package's manifest that does not inherit the lints. One that is a workspace of
/// its own has none to inherit.
fn check_manifest(path: &str, text: &str) -> Option<Fault> {
    let mut section = "";
    let mut inherits = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        inherits |= section == "[lints]" && line.replace(' ', "") == "workspace=true";
    }
    let has = |section: &str| text.lines().any(|line| line.trim() == section);
    let is_package = has("[package]") && !has("[workspace]");
    let fault = Fault::at(path, 1, "the manifest does not inherit the workspace's lints");
    (is_package && !inherits).then_some(fault)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::tree::Tree;

    fn faults(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_without_a_header_is_a_fault() {
        assert_eq!(faults("a/b.rs", "fn a() {}\n").len(), 1);
        assert_eq!(faults("a/b.rs", "//! B.\n"), [""; 0]);
    }

    #[test]
    fn a_file_is_at_most_so_long() {
        let lines = |count: usize| format!("//! A.\n{}", "// a\n".repeat(count - 1));
        assert_eq!(faults("a/b.rs", &lines(500)), [""; 0]);
        assert_eq!(faults("a/b.rs", &lines(501)).len(), 1);
    }

    #[test]
    fn tests_do_not_count_for_the_length() {
        let tests = format!("//! A.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// a\n".repeat(600));
        assert_eq!(faults("a/b.rs", &tests), [""; 0]);
    }

    #[test]
    fn an_attic_is_a_fault() {
        assert_eq!(faults("a/utils.rs", "//! A.\n").len(), 1);
        assert_eq!(faults("a/types/mod.rs", "//! A.\n").len(), 1);
    }

    #[test]
    fn a_manifest_inherits_the_lints() {
        let package = "[package]\nname = \"a\"\n";
        assert_eq!(faults("a/Cargo.toml", package).len(), 1);
        assert_eq!(
            faults("a/Cargo.toml", &format!("{package}[lints]\nworkspace = true\n")),
            [""; 0]
        );
        assert_eq!(faults("Cargo.toml", "[workspace]\n"), [""; 0]);
    }

    #[test]
    fn what_is_not_rust_is_a_fault_in_its_line() {
        assert_eq!(faults("a/b.rs", "//! A.\nfn a( {\n").len(), 1);
    }
}
