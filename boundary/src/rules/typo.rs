//! Slips of the hand: how far two words are from each other, and what was likely meant.

/// Names that many policies hold. What is one slip away from one of them is likely meant to be it.
const KNOWN: [&str; 12] = [
    "github.com",
    "githubusercontent.com",
    "gitlab.com",
    "bitbucket.org",
    "anthropic.com",
    "openai.com",
    "google.com",
    "googleapis.com",
    "amazonaws.com",
    "microsoft.com",
    "windows.net",
    "cloudflare.com",
];

/// Ends of names that are one slip away from ends that there are not.
const ENDS: [&str; 8] = ["com", "org", "net", "dev", "edu", "gov", "info", "cloud"];

/// The methods that people write into rules.
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PROPFIND"];

/// What a host was likely meant to be.
pub(super) fn host(name: &str) -> Option<String> {
    let owner = psl::domain_str(name).unwrap_or(name);
    if KNOWN.contains(&owner) {
        return None;
    }
    let rest = name.strip_suffix(owner).unwrap_or_default();
    if let Some(known) = KNOWN.iter().find(|known| slips(known, owner) == 1) {
        return Some(format!("{rest}{known}"));
    }
    let (front, end) = name.rsplit_once('.')?;
    let is_known = psl::suffix(name.as_bytes()).is_some_and(|suffix| suffix.is_known());
    let meant = ENDS.iter().find(|known| slips(known, end) == 1).filter(|_| !is_known)?;
    Some(format!("{front}.{meant}"))
}

/// What a method was likely meant to be.
pub(super) fn method(name: &str) -> Option<&'static str> {
    if METHODS.contains(&name) {
        return None;
    }
    METHODS.into_iter().find(|known| slips(known, name) == 1)
}

/// How many slips of the hand lie between two words: a character too many, too few, another one, or
/// two exchanged.
pub(super) fn slips(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut above: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
    for (i, own) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, its) in other.iter().enumerate() {
            let changed = cell(&last, j) + usize::from(own != its);
            let mut count = changed.min(cell(&last, j + 1) + 1).min(cell(&row, j) + 1);
            let is_exchanged =
                i > 0 && j > 0 && one.get(i - 1) == Some(its) && other.get(j - 1) == Some(own);
            if is_exchanged {
                count = count.min(cell(&above, j - 1) + 1);
            }
            row.push(count);
        }
        above = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_one_character_or_two_exchanged() {
        for (word, count) in
            [("get", 0), ("gte", 1), ("et", 1), ("gett", 1), ("got", 1), ("xyz", 3)]
        {
            assert_eq!(slips("get", word), count, "{word}");
        }
    }

    #[test]
    fn what_is_one_slip_from_a_known_name_is_told_it() {
        assert_eq!(host("api.githb.com").as_deref(), Some("api.github.com"));
        assert_eq!(host("shop.example.con").as_deref(), Some("shop.example.com"));
        assert_eq!(method("PSOT"), Some("POST"));
        for good in ["github.com", "api.github.com", "db.internal", "localhost", "a.example"] {
            assert_eq!(host(good), None, "{good}");
        }
        assert_eq!(method("PURGE"), None);
    }
}
