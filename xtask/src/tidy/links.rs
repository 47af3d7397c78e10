//! Links between the documents: each leads to a file, and to a heading where it names one.

use super::tree::{Fault, Tree};

/// Every link inside the repository that leads nowhere.
pub(crate) fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in tree.ending(".md") {
        for (line, link) in links(text) {
            let is_elsewhere = link.contains("://") || link.starts_with("mailto:");
            if !is_elsewhere && !leads_somewhere(tree, path, link) {
                faults.push(Fault::at(path, line, format!("the link `{link}` leads nowhere")));
            }
        }
    }
    faults
}

/// The targets of a document's links with their lines, code left out.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for prose in line.split('`').step_by(2) {
            let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            found.extend(targets.map(|target| (index + 1, target)));
        }
    }
    found
}

/// Whether a link of a document leads to something that is there.
fn leads_somewhere(tree: &Tree, from: &str, link: &str) -> bool {
    let (file, heading) = link.split_once('#').map_or((link, None), |(f, h)| (f, Some(h)));
    let target = if file.is_empty() { Some(from.to_owned()) } else { resolve(from, file) };
    let Some(target) = target.filter(|target| tree.has(target)) else { return false };
    heading.is_none_or(|heading| {
        tree.text(&target).is_some_and(|text| headings(text).any(|there| there == heading))
    })
}

/// The path from the top that a relative path in a document means; nothing if it leaves the tree.
fn resolve(from: &str, link: &str) -> Option<String> {
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    if link.starts_with('/') {
        parts.clear();
    }
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The anchors of a document's headings: lower case, spaces to hyphens, punctuation dropped.
fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::tree::Tree;

    fn faults(readme: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("README.md", "# Read me\n"),
            ("docs/law.md", "# The law, in short\n[back](../README.md#read-me) [up](..)\n"),
            ("docs/notes.md", readme),
        ]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_that_lead_somewhere_are_in_order() {
        let text = "[a](law.md) [b](/README.md) [c](law.md#the-law-in-short) [d](../docs)\n";
        assert_eq!(faults(text), [""; 0]);
    }

    #[test]
    fn a_link_to_nothing_is_a_fault_in_its_line() {
        let found = faults("# N\n\n[a](gone.md)\n");
        assert_eq!(found, ["docs/notes.md:3: the link `gone.md` leads nowhere"]);
    }

    #[test]
    fn a_heading_must_be_there() {
        assert_eq!(faults("[a](law.md#gone)\n").len(), 1);
    }

    #[test]
    fn code_and_the_web_are_passed_over() {
        assert_eq!(faults("`[a](b)` [w](https://example.com/)\n```\n[a](b)\n```\n"), [""; 0]);
    }
}
