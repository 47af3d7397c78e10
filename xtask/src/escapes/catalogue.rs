//! The catalogue of known ways out, as `tests/escape/catalogue.txt` has it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

/// Where it is.
pub(crate) const PLACE: &str = "tests/escape/catalogue.txt";

/// The whole catalogue.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    /// The walls by name, in the catalogue's order.
    pub(crate) walls: Vec<Wall>,
    /// The walls that only another jail has, or that are to be missed there, with its name.
    pub(crate) elsewhere: Vec<(String, Wall)>,
    /// The ways out, in the catalogue's order.
    pub(crate) ways: Vec<Way>,
}

/// A wall.
#[derive(Debug)]
pub(crate) struct Wall {
    /// Its name.
    pub(crate) name: String,
    /// What it is.
    pub(crate) words: String,
    /// What a build with mutations leaves off for it.
    pub(crate) switches: String,
    /// The tests that are run without it, by parts of their names.
    pub(crate) tests: Vec<String>,
}

/// A way out.
#[derive(Debug)]
pub(crate) struct Way {
    /// Its number, as `A-8`.
    pub(crate) id: String,
    /// What there is to show of it.
    pub(crate) kind: Kind,
    /// The walls that close it.
    pub(crate) walls: Vec<String>,
    /// Tests of other modules.
    pub(crate) elsewhere: Vec<String>,
    /// What it is, or why no test can close it.
    pub(crate) words: String,
}

/// What there is to show of a way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Walls close it.
    Held,
    /// It is about something that must work: there is no wall to leave off.
    Works,
    /// No test can show anything.
    Info,
}

impl Kind {
    /// As the catalogue spells it.
    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "held" => Self::Held,
            "works" => Self::Works,
            "info" => Self::Info,
            other => bail!("{PLACE}: not held, works or info: {other}"),
        })
    }
}

/// The walls that only the usual jail has: its hooks, its cgroup, its doors on the host, and what it
/// takes besides where others are made of it (a user and a process namespace in `nsjail`).
const USUAL_ALONE: [&str; 12] = [
    "connect",
    "sendmsg",
    "sock_create",
    "setsockopt",
    "egress",
    "ingress",
    "device",
    "cgroup",
    "door",
    "flow",
    "userns",
    "processes",
];

impl Catalogue {
    /// The walls of another jail, its own first.
    pub(crate) fn walls_of(&self, jail: &str) -> impl Iterator<Item = &Wall> {
        let own = self.elsewhere.iter().filter(move |(whose, _)| whose == jail);
        let shared = self.walls.iter().filter(|wall| !USUAL_ALONE.contains(&wall.name.as_str()));
        own.map(|(_, wall)| wall).chain(shared)
    }

    /// Takes in a wall of a kind: of every jail, or of one.
    fn stand(&mut self, kind: &str, wall: Wall) {
        if kind == "wall" {
            self.walls.push(wall);
        } else {
            self.elsewhere.push((kind.to_owned(), wall));
        }
    }

    /// Reads it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut catalogue = Self::default();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let fields: Vec<&str> = line.split('|').map(str::trim).collect();
            match fields.as_slice() {
                [name, words, switches, tests] => {
                    let (kind, name) = name.split_once(' ').context("a wall has a name")?;
                    let wall = Wall {
                        name: name.to_owned(),
                        words: (*words).to_owned(),
                        switches: (*switches).to_owned(),
                        tests: tests.split_whitespace().map(str::to_owned).collect(),
                    };
                    catalogue.stand(kind, wall);
                }
                [id, outcome, walls, elsewhere, words] => catalogue.ways.push(Way {
                    id: (*id).to_owned(),
                    kind: Kind::parse(outcome)?,
                    walls: walls.split_whitespace().map(str::to_owned).collect(),
                    elsewhere: elsewhere.split_whitespace().map(str::to_owned).collect(),
                    words: (*words).to_owned(),
                }),
                _ => bail!("{PLACE}: neither a wall nor a way out: {line}"),
            }
        }
        Ok(catalogue)
    }
}

impl Way {
    /// Whether there are walls to leave off.
    pub(crate) fn is_held(&self) -> bool {
        self.kind == Kind::Held
    }

    /// Whether it is a way round the walls of the jail, of which each has to be missed; in the other
    /// sections the proxy reads, and a test shows what it makes of one text.
    pub(crate) fn is_of_jail(&self) -> bool {
        self.is_held() && self.id.starts_with(['A', 'B', 'F', 'H'])
    }

    /// Whether a test is of this way out.
    pub(crate) fn is_shown_by(&self, test: &str) -> bool {
        self.elsewhere.iter().any(|name| name == test) || numbers(test).contains(&self.id)
    }

    /// Its tests among those that ran, with how they ended.
    pub(crate) fn tests<'a>(
        &self,
        ran: &'a BTreeMap<String, bool>,
    ) -> impl Iterator<Item = (&'a str, bool)> {
        ran.iter().filter(|(test, _)| self.is_shown_by(test)).map(|(test, ok)| (test.as_str(), *ok))
    }
}

/// The numbers in a test's name: `escape::x::a29_h12_no_way` is of A-29 and H-12.
fn numbers(test: &str) -> Vec<String> {
    let Some((_, name)) = test.strip_prefix("escape::").and_then(|rest| rest.split_once("::"))
    else {
        return Vec::new();
    };
    name.split('_').map_while(number).collect()
}

/// The number that a part of a test's name spells: a letter and two digits.
fn number(part: &str) -> Option<String> {
    let mut letters = part.chars();
    let letter = letters.next().filter(char::is_ascii_lowercase)?;
    let digits = letters.as_str();
    let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| format!("{}-{}", letter.to_ascii_uppercase(), digits.trim_start_matches('0')))
}

#[cfg(test)]
mod tests {
    use super::{Catalogue, Kind, numbers};

    #[test]
    fn a_tests_name_tells_its_numbers() {
        assert_eq!(numbers("escape::inside::a29_h12_no_way"), ["A-29", "H-12"]);
        assert_eq!(numbers("escape::inside::no_a29"), Vec::<String>::new());
        assert_eq!(numbers("kernel::a29_x"), Vec::<String>::new());
    }

    #[test]
    fn walls_and_ways_are_told_apart() {
        let text = "# note\n\nwall egress | reads headers | egress | a08_\n\
                    nsjail ipc | a namespace | ipc | x\nwall seccomp | a filter | seccomp | y\n\
                    A-8 | held | egress | kernel::x | UDP-Lite\nB-4 | info | | | a reason\n";
        let read = Catalogue::parse(text).unwrap();
        assert_eq!((read.walls.len(), read.ways.len()), (2, 2));
        let of = |jail| read.walls_of(jail).map(|wall| wall.name.as_str()).collect::<Vec<_>>();
        assert_eq!((of("nsjail"), of("landjail")), (vec!["ipc", "seccomp"], vec!["seccomp"]));
        assert!(read.ways[0].is_shown_by("escape::x::a08_y"));
        assert!(read.ways[0].is_shown_by("kernel::x"));
        assert_eq!([&read.ways[0], &read.ways[1]].map(|way| way.kind), [Kind::Held, Kind::Info]);
    }

    #[test]
    fn a_line_that_is_neither_is_refused() {
        assert!(Catalogue::parse("A-8 | held\n").is_err());
    }
}
