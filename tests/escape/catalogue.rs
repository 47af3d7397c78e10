//! The catalogue and the tests agree: what it calls held has a test, and every test is of a line.

use std::collections::BTreeSet;
use std::process::Command;

/// The catalogue, which the document shares.
const CATALOGUE: &str = include_str!("catalogue.txt");

/// One line of it: number, outcome, walls, tests of other modules, words.
struct Line<'a> {
    id: &'a str,
    /// Whether walls hold it.
    is_held: bool,
    /// Whether a test shows it.
    is_shown: bool,
    walls: Vec<&'a str>,
    elsewhere: Vec<&'a str>,
    words: &'a str,
}

/// The lines about techniques.
fn lines() -> Vec<Line<'static>> {
    let lines = CATALOGUE.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.filter(|line| !is_of_wall(line)).map(line).collect()
}

/// Whether a line is about a wall, of every jail or of one.
fn is_of_wall(line: &str) -> bool {
    ["wall ", "nsjail ", "landjail "].iter().any(|kind| line.starts_with(kind))
}

/// Reads one.
fn line(text: &str) -> Line<'_> {
    let mut fields = text.split('|').map(str::trim);
    let mut next = || fields.next().unwrap_or_else(|| panic!("five fields: {text}"));
    let id = next();
    let (is_held, is_shown) = match next() {
        "held" => (true, true),
        "works" => (false, true),
        "info" => (false, false),
        other => panic!("held, works or info: {other}"),
    };
    let [walls, elsewhere] = [next(), next()].map(|list| list.split_whitespace().collect());
    Line { id, is_held, is_shown, walls, elsewhere, words: next() }
}

/// The walls, as the catalogue names them.
fn walls() -> BTreeSet<&'static str> {
    let named = CATALOGUE.lines().filter_map(|line| line.strip_prefix("wall "));
    named.filter_map(|line| line.split('|').next().map(str::trim)).collect()
}

/// Every test of this program by its path.
fn tests() -> BTreeSet<String> {
    let own = std::env::current_exe().expect("the test's own path");
    let listed = Command::new(own).arg("--list").output().expect("the runner lists its tests");
    let listed = String::from_utf8(listed.stdout).expect("names are ASCII");
    listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// The numbers in a test's name: `escape::x::a29_h12_no_way` is of A-29 and H-12.
fn numbers(test: &str) -> Vec<String> {
    let Some((_, name)) = test.strip_prefix("escape::").and_then(|rest| rest.split_once("::"))
    else {
        return Vec::new();
    };
    let is_number = |part: &&str| {
        let (letter, digits) = part.split_at(1);
        letter.starts_with(|letter: char| letter.is_ascii_lowercase())
            && digits.len() == 2
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let spelt = |part: &str| {
        let (letter, digits) = part.split_at(1);
        format!("{}-{}", letter.to_uppercase(), digits.trim_start_matches('0'))
    };
    name.split('_').take_while(|part| part.len() == 3 && is_number(part)).map(spelt).collect()
}

#[test]
fn what_the_catalogue_calls_held_has_a_test_and_a_wall() {
    let tests = tests();
    let tested: BTreeSet<String> = tests.iter().flat_map(|test| numbers(test)).collect();
    for line in lines().iter().filter(|line| line.is_shown) {
        let has_test = tested.contains(line.id) || !line.elsewhere.is_empty();
        assert!(has_test, "{} has no test", line.id);
        assert_eq!(line.is_held, !line.walls.is_empty(), "{}: what holds it", line.id);
    }
}

#[test]
fn what_the_catalogue_calls_info_has_a_reason() {
    for line in lines().iter().filter(|line| !line.is_shown) {
        assert!(line.words.len() > 40, "{} has no reason", line.id);
    }
}

#[test]
fn every_test_is_of_a_line_and_every_name_in_a_line_is_there() {
    let (tests, walls, lines) = (tests(), walls(), lines());
    for test in tests.iter().filter(|test| test.starts_with("escape::")) {
        let of_catalogue = test.starts_with("escape::catalogue::");
        let numbers = numbers(test);
        assert!(of_catalogue || !numbers.is_empty(), "{test} has no number");
        for number in numbers {
            assert!(lines.iter().any(|line| line.id == number), "{test}: no line {number}");
        }
    }
    for line in &lines {
        for wall in &line.walls {
            assert!(walls.contains(wall), "{}: no wall {wall}", line.id);
        }
        for test in &line.elsewhere {
            assert!(tests.contains(*test), "{}: no test {test}", line.id);
        }
    }
}

#[test]
fn every_wall_has_tests_that_are_there() {
    let tests = tests();
    for line in CATALOGUE.lines().filter(|line| is_of_wall(line)) {
        let filters = line.rsplit('|').next().unwrap_or_default().split_whitespace();
        for filter in filters {
            assert!(tests.iter().any(|test| test.contains(filter)), "no test {filter}: {line}");
        }
    }
}

#[test]
fn no_line_stands_twice() {
    let mut seen = BTreeSet::new();
    for line in lines() {
        assert!(seen.insert(line.id), "{} stands twice", line.id);
    }
}
