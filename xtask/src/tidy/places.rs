//! Places of the machine on which somebody works, which mean nothing on another and so must not
//! stand in the tree.

use std::env;
use std::path::Path;

use super::tree::{Fault, Tree};

/// The machine's own places: this checkout, the folder it lies in and the person's home.
///
/// A folder that every machine has is not one of them: a test may well speak of `/tmp`.
pub(crate) fn of_this_machine(root: &Path) -> Vec<String> {
    let home = env::home_dir();
    let above = root.parent().filter(|folder| folder.components().count() > 2);
    [Some(root), above, home.as_deref()]
        .into_iter()
        .flatten()
        .filter(|folder| folder.components().count() > 1)
        .map(|folder| format!("{}/", folder.display()))
        .collect()
}

/// Every line that names one of the places.
pub(crate) fn check(tree: &Tree, places: &[String]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in tree.texts() {
        for (index, line) in text.lines().enumerate() {
            if let Some(place) = places.iter().find(|place| names(line, place)) {
                let what = format!("`{place}` is a place of one machine only");
                faults.push(Fault::at(path, index + 1, what));
            }
        }
    }
    faults
}

/// Whether a line names something in a place, as a path of its own.
fn names(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        before.is_none_or(|before| !before.is_alphanumeric() && !matches!(before, '/' | '.' | '_'))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{check, of_this_machine};
    use crate::tidy::tree::Tree;

    fn faults(line: &str) -> usize {
        check(&Tree::of(&[("a.md", line)]), &["/home/me/".to_owned()]).len()
    }

    #[test]
    fn a_place_of_the_machine_is_a_fault() {
        assert_eq!(faults("see /home/me/notes"), 1);
    }

    #[test]
    fn the_end_of_another_path_is_not_the_place() {
        assert_eq!(faults("see /mnt/home/me/notes"), 0);
    }

    #[test]
    fn the_checkout_and_the_folder_above_it_are_places() {
        let places = of_this_machine(Path::new("/srv/code/boundary"));
        assert!(places.contains(&"/srv/code/boundary/".to_owned()));
        assert!(places.contains(&"/srv/code/".to_owned()));
    }
}
