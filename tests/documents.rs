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
