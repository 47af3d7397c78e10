//! What is written for people works as it is written: every command of boundary's in the documents
//! parses, and every policy in them has no fault.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::world::binary;

/// The checkout.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Every document, by its name.
fn documents() -> Vec<(String, String)> {
    let folders = [ROOT.to_owned(), format!("{ROOT}/docs")];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("it is there"));
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let paths = paths.filter(|path| path.extension().is_some_and(|it| it == "md"));
    let read = |path: &Path| fs::read_to_string(path).expect("it can be read");
    let mut all: Vec<_> = paths.map(|path| (path.display().to_string(), read(&path))).collect();
    all.sort();
    all
}

/// The blocks of a document in a language, and what is outside of all blocks.
fn blocks(text: &str, languages: &[&str]) -> (Vec<String>, String) {
    let (mut wanted, mut outside, mut within) = (Vec::new(), String::new(), None);
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut within) {
            (Some(language), None) => within = Some((languages.contains(&language), String::new())),
            (Some(_), Some((is_wanted, block))) => {
                if *is_wanted {
                    wanted.push(std::mem::take(block));
                }
                within = None;
            }
            (None, place) => {
                let text = place.as_mut().map_or(&mut outside, |(_, block)| block);
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    (wanted, outside)
}

/// A line as a shell splits it, a command for each part of a pipe or list; comments are gone.
fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() || "|&;<>()".contains(c) => {
                words.extend(word.take());
                if !c.is_whitespace() {
                    all.push(std::mem::take(&mut words));
                }
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    all.push(words);
    all
}

/// The arguments of boundary, itself first, if a command is one of its.
fn of_boundary(words: &[String]) -> Option<Vec<String>> {
    let is_before = |word: &&String| word.contains('=') || ["$", "sudo"].contains(&word.as_str());
    let words: Vec<String> = words.iter().skip_while(is_before).cloned().collect();
    match words.first().map(String::as_str) {
        Some("boundary") => Some(words),
        Some("cargo") if words.get(1..4)? == ["xtask", "run", "--"] => {
            Some([&["boundary".to_owned()], words.get(4..)?].concat())
        }
        _ => None,
    }
}

/// Every command of boundary's in a document: those in blocks as they are, and those in a sentence,
/// which may say what else could stand in a place (`reload|ps`, `[METHOD]`, `…`).
fn written(text: &str) -> Vec<Vec<String>> {
    let (scripts, outside) = blocks(text, &["sh"]);
    let joined = scripts.concat().replace("\\\n", " ");
    let mut found: Vec<_> = joined.lines().flat_map(commands).collect();
    // The rest of a console is what was answered.
    let consoles = blocks(text, &["console"]).0.concat();
    found.extend(consoles.lines().filter_map(|line| line.strip_prefix("$ ")).flat_map(commands));
    let spans = outside.split('`').skip(1).step_by(2).filter(|span| span.starts_with("boundary "));
    let simple = |span: &str| {
        let span = span.replace("SHELL", "bash").replace("SEQUENCE", "1");
        let words = span.split_whitespace().filter(|word| !word.contains(['[', ']', '…']));
        words.map(|word| word.split('|').next().unwrap_or_default()).collect::<Vec<_>>().join(" ")
    };
    found.extend(spans.flat_map(|span| commands(&simple(span))));
    found.iter().filter_map(|words| of_boundary(words)).collect()
}

/// The rows of a document's tables whose columns are headed so, by their cells.
fn rows<'t>(text: &'t str, last: &str) -> Vec<Vec<&'t str>> {
    let cells = |line: &'t str| line.split(" | ").map(|it| it.trim_matches(['|', ' '])).collect();
    let mut found: Vec<Vec<&str>> = Vec::new();
    let mut is_wanted = false;
    for line in text.lines() {
        let is_row = line.starts_with('|');
        is_wanted = is_row && (is_wanted || line.ends_with(&format!("| {last} |")));
        if is_wanted {
            found.push(cells(line));
        }
    }
    // Heads and what is below them are no rows.
    found.retain(|row: &Vec<&str>| row.last().is_some_and(|it| *it != last && !it.contains("---")));
    found
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// All the code below a folder.
fn code(folder: &str) -> String {
    let entries = fs::read_dir(folder).expect("it is there").flatten();
    let texts = entries.map(|entry| {
        let path = entry.path();
        let is_code = path.extension().is_some_and(|it| it == "rs");
        match path.to_str() {
            Some(path) if entry.path().is_dir() => code(path),
            Some(path) if is_code => fs::read_to_string(path).expect("it can be read"),
            _ => String::new(),
        }
    });
    texts.collect()
}

#[test]
fn every_fault_and_every_bound_in_the_documents_has_a_test_that_is_there() {
    let code = ["boundary/src", "tests"].map(|it| code(&format!("{ROOT}/{it}"))).concat();
    for (document, least) in [("faults", 25), ("limits", 20)] {
        let text = fs::read_to_string(format!("{ROOT}/docs/{document}.md")).expect("it is there");
        let rows = rows(&text, "test");
        assert!(rows.len() >= least, "{document}: {} rows", rows.len());
        for row in rows {
            let cell = row.last().copied().unwrap_or_default();
            assert!(cell == "the same" || quoted(cell).count() > 0, "no test: {row:?}");
            for name in quoted(cell) {
                assert!(code.contains(&format!("fn {name}(")), "no test is called {name}");
            }
        }
    }
}

#[test]
fn the_lints_that_the_document_of_bounds_names_are_on_and_nowhere_put_aside() {
    let read = |name: &str| fs::read_to_string(format!("{ROOT}/{name}")).expect("it is there");
    let (clippy, workspace) = (read("clippy.toml"), read("Cargo.toml"));
    for method in ["tokio::sync::mpsc::unbounded_channel", "std::sync::mpsc::channel"] {
        assert!(clippy.contains(&format!("path = \"{method}\"")), "{method} is permitted");
    }
    assert!(workspace.contains("\nawait_holding_lock = \"warn\""), "a lock may be held");
    assert!(read("boundary/Cargo.toml").contains("[lints]\nworkspace = true"), "lints are off");
    assert!(read(".ci/run").contains("clippy"), "nobody looks");
    let code = code(&format!("{ROOT}/boundary/src"));
    for word in ["unbounded_channel", "clippy::await_holding_lock", "UnboundedSender"] {
        assert!(!code.contains(word), "{word} is used");
    }
}

#[test]
fn every_figure_in_the_table_of_bounds_is_shown_and_explained() {
    let code = code(&format!("{ROOT}/boundary/src"));
    let read = |name: &str| fs::read_to_string(format!("{ROOT}/docs/{name}.md"));
    let (limits, operating) = (read("limits").expect("text"), read("operating").expect("text"));
    let rows = rows(&limits, "test");
    let cells = rows.iter().filter_map(|row| row.iter().rev().nth(2).copied());
    let names: Vec<&str> = cells.flat_map(quoted).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let in_code = format!("\"{}\"", name.trim_end_matches("_total"));
        assert!(code.contains(&in_code), "{name} is shown nowhere");
        assert!(operating.contains(&format!("`{name}`")), "{name} is explained nowhere");
    }
}

#[test]
fn every_setting_has_its_row_with_all_of_its_names() {
    let text = fs::read_to_string(format!("{ROOT}/docs/settings.md")).expect("it is there");
    let rows = rows(&text, "without it");
    assert_eq!(rows.len(), boundary::cli::settings::ALL.len(), "one each");
    for setting in boundary::cli::settings::ALL {
        let flag = format!("`--{}`", setting.flag);
        let row = rows.iter().find(|row| row[0] == flag).expect(&flag);
        assert_eq!(quoted(row[1]).collect::<Vec<_>>(), setting.variables, "{flag}");
        assert_eq!(quoted(row[2]).next(), setting.key, "{flag}");
    }
}

#[test]
fn every_command_in_the_documents_is_one_that_boundary_takes() {
    let mut count = 0;
    for (path, text) in documents() {
        for line in written(&text) {
            count += 1;
            // A sentence may speak of options alone.
            let has_command = line.iter().any(|word| word == "--");
            let is_run = line.get(1).is_none_or(|word| word.starts_with('-'));
            let line = if is_run && !has_command {
                [&line[..], &["--".to_owned(), "true".to_owned()]].concat()
            } else {
                line
            };
            // Nor need it say what a tool is told: `boundary audit verify`.
            let with = |more: &[&str]| {
                let words = line.iter().map(OsString::from).chain(more.iter().map(OsString::from));
                boundary::cli::parse(words)
            };
            let parsed = with(&[]).or_else(|_| with(&["--help"]));
            assert!(parsed.is_ok(), "{path}: {line:?}: {}", parsed.unwrap_err());
        }
    }
    assert!(count > 40, "{count} were found");
}

#[test]
fn every_policy_in_the_documents_has_no_fault() {
    let folder = std::env::temp_dir().join(format!("documents-{}", std::process::id()));
    fs::create_dir_all(folder.join("team")).expect("the temporary folder can be written");
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("it is ours");
    write("team/common.yaml", "allowlist: [domain=example.org]\n");
    let mut count = 0;
    for (path, text) in documents() {
        for block in blocks(&text, &["yaml"]).0 {
            count += 1;
            write("policy.yaml", &block);
            let mut check = Command::new(binary());
            check.args(["check", "--config"]).arg(folder.join("policy.yaml"));
            let out = check.output().expect("it starts");
            let said = String::from_utf8_lossy(&out.stdout).into_owned()
                + &String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success(), "{path}:\n{block}\n{said}");
        }
    }
    fs::remove_dir_all(&folder).expect("it is ours");
    assert!(count >= 3, "{count} were found");
}

/// The command chooses what is asked: read as markup, it could look like another question.
#[test]
fn a_question_that_a_document_shows_by_zenity_is_no_markup() {
    let mut count = 0;
    for (path, text) in documents() {
        for line in text.lines().filter(|line| line.contains("zenity ")) {
            count += 1;
            assert!(line.contains(" --no-markup "), "{path}: {line}");
        }
    }
    assert!(count > 0, "none is shown");
}

#[test]
fn the_first_page_has_room_on_two_screens() {
    let text = fs::read_to_string(format!("{ROOT}/README.md")).expect("it is there");
    assert!(text.lines().count() <= 100, "{} lines", text.lines().count());
}

#[test]
fn help_is_short_and_in_groups() {
    let out = Command::new(binary()).arg("--help").output().expect("it starts");
    let help = String::from_utf8(out.stdout).expect("text");
    assert!(help.lines().count() <= 100, "{help}");
    let groups = help.lines().filter(|line| line.ends_with(':') && !line.starts_with(' '));
    assert!(groups.count() >= 4, "{help}");
}
