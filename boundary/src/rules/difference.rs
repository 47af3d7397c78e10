//! What one policy grants and another does not.
//!
//! *Standing*: `boundary policy diff` asks. *Never*: says that something is granted by both unless
//! one rule of the other grants all of it.

use super::{DomainMatch, Rule};

/// A policy as far as a comparison needs it.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its rules.
    pub rules: &'a [&'a Rule],
    /// How `domain=` is read.
    pub reading: DomainMatch,
}

/// The rules, or the parts of rules, of one policy that grant what no single rule of the other does:
/// each with the number of the rule that it is from.
pub fn difference(of: Side<'_>, beside: Side<'_>) -> Vec<(usize, Rule)> {
    let mut found = Vec::new();
    for (number, rule) in of.rules.iter().enumerate() {
        let is_new = |atom: &Rule| {
            let covers = |own: &&Rule| own.covers(beside.reading, (atom, of.reading));
            !beside.rules.iter().any(covers)
        };
        if !is_new(rule) {
            continue;
        }
        let atoms = rule.atoms();
        let count = atoms.len();
        let new: Vec<Rule> = atoms.into_iter().filter(is_new).collect();
        if new.len() == count {
            found.push((number, (*rule).clone()));
        } else {
            found.extend(new.into_iter().map(|atom| (number, atom)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the first list grants and the second does not.
    fn new(of: &[&str], beside: &[&str]) -> Vec<String> {
        let parse = |rules: &[&str]| -> Vec<Rule> {
            rules.iter().map(|rule| rule.parse().unwrap()).collect()
        };
        let (of, beside) = (parse(of), parse(beside));
        let reading = DomainMatch::Subdomains;
        let (of, beside): (Vec<_>, Vec<_>) = (of.iter().collect(), beside.iter().collect());
        let found = difference(Side { rules: &of, reading }, Side { rules: &beside, reading });
        found.into_iter().map(|(_, rule)| rule.to_string()).collect()
    }

    #[test]
    fn the_same_said_otherwise_is_no_difference() {
        let split = ["method=GET domain=a.example", "domain=a.example method=POST"];
        let joined = ["method=GET,POST domain=a.example"];
        assert_eq!(new(&split, &joined), [""; 0]);
        assert_eq!(new(&joined, &split), [""; 0]);
    }

    #[test]
    fn of_a_list_only_what_is_new_is_told() {
        let told = new(&["method=GET,PUT domain=a.example,b.example"], &["domain=a.example"]);
        assert_eq!(told, ["method=GET domain=b.example", "method=PUT domain=b.example"]);
        assert_eq!(new(&["domain=c.example"], &["domain=a.example"]), ["domain=c.example"]);
    }

    #[test]
    fn a_list_that_is_joined_from_two_pairs_is_told_whole() {
        let rule = "method=GET method=PUT domain=a.example";
        assert_eq!(new(&[rule], &["method=GET domain=a.example"]), [rule]);
    }

    #[test]
    fn a_name_beside_a_guarded_address_is_more_than_each_alone() {
        let (apart, beside) = (["host=x.test", "host=127.0.0.1"], ["host=x.test,127.0.0.1"]);
        assert_eq!(new(&beside, &apart), beside);
        assert_eq!(new(&apart, &beside), [""; 0]);
    }

    #[test]
    fn another_reading_is_a_difference() {
        let rule: Rule = "domain=a.example".parse().unwrap();
        let rules = [&rule];
        let side = |reading| Side { rules: &rules, reading };
        let (wide, narrow) = (DomainMatch::Subdomains, DomainMatch::Exact);
        assert_eq!(difference(side(wide), side(narrow)).len(), 1);
        assert_eq!(difference(side(narrow), side(wide)).len(), 0);
    }
}
