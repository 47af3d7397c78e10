//! Reads a Rust file as tokens: what it uses of its own crate, which lints it puts aside, and
//! which of its lines are tests.
//!
//! Tokens, not a syntax tree, because a path counts wherever it stands: in an import, an
//! expression, an attribute or the body of a macro, which a syntax tree leaves unread.

use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, Group, LexError, TokenStream, TokenTree};

/// A path from the crate's root, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    /// The line, counted from 1.
    pub(crate) line: usize,
    /// The names after `crate`; `*` for everything of the last one, nothing for the root itself.
    pub(crate) path: Vec<String>,
}

/// What tidy wants to know of one file.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Every path of the own crate, outside tests.
    pub(crate) uses: Vec<Use>,
    /// Every lint put aside by `expect` or `allow`, and its line.
    pub(crate) lints: Vec<(usize, String)>,
    /// The lines of items that are only compiled for tests.
    pub(crate) tests: Vec<RangeInclusive<usize>>,
    /// The modules in files of their own that are only compiled for tests.
    pub(crate) test_modules: Vec<String>,
    /// Every function, tests too.
    pub(crate) functions: Vec<String>,
}

impl Source {
    /// Reads a file that is the given module of its crate.
    pub(crate) fn read(text: &str, module: &[String]) -> Result<Self, LexError> {
        let mut source = Self::default();
        source.read_tokens(text.parse()?, module, false);
        Ok(source)
    }

    /// How many lines are not tests.
    pub(crate) fn lines_without_tests(&self, text: &str) -> usize {
        let is_test = |line: usize| self.tests.iter().any(|lines| lines.contains(&line));
        (1..=text.lines().count()).filter(|line| !is_test(*line)).count()
    }

    /// Reads the tokens of one group, in a test or not.
    fn read_tokens(&mut self, tokens: TokenStream, module: &[String], in_test: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = &tokens[..];
        while let Some((token, after)) = rest.split_first() {
            if let Some((item, after_item)) = test_item(rest) {
                self.read_test(item, module);
                rest = after_item;
                continue;
            }
            self.note_function(token, after);
            self.note_lints(token, after);
            let begins = !in_test && !is_after_colons(&tokens, rest);
            if let Some(base) = base(token, after, module).filter(|_| begins) {
                self.read_path(rest, base);
            }
            if let TokenTree::Group(group) = token {
                self.read_tokens(group.stream(), module, in_test);
            } else if let Some((name, body, after_body)) = inline_module(rest) {
                self.read_tokens(body.stream(), &[module, &[name]].concat(), in_test);
                rest = after_body;
                continue;
            }
            rest = after;
        }
    }

    /// Reads an item that is only compiled for tests: its lines, its name if its text is
    /// elsewhere, its functions.
    fn read_test(&mut self, item: &[TokenTree], module: &[String]) {
        if let (Some(first), Some(last)) = (item.first(), item.last()) {
            self.tests.push(first.span().start().line..=last.span().end().line);
        }
        let is_mod = |pair: &[TokenTree]| pair.first().is_some_and(|token| is_ident(token, "mod"));
        if item.last().is_some_and(|last| is_punct(last, ';'))
            && let Some([_, name]) = item.windows(2).find(|pair| is_mod(pair))
        {
            self.test_modules.push(name.to_string());
        }
        // Past the `#[cfg(test)]` that made it a test.
        let body = item.iter().skip(2).cloned().collect();
        self.read_tokens(body, module, true);
    }

    /// Notes `fn name`.
    fn note_function(&mut self, token: &TokenTree, after: &[TokenTree]) {
        if let (true, Some(TokenTree::Ident(name))) = (is_ident(token, "fn"), after.first()) {
            self.functions.push(name.to_string());
        }
    }

    /// Notes what stands in `expect(…)` or `allow(…)`.
    fn note_lints(&mut self, token: &TokenTree, after: &[TokenTree]) {
        let aside = is_ident(token, "expect") || is_ident(token, "allow");
        let Some(TokenTree::Group(group)) = after.first().filter(|_| aside) else { return };
        let line = token.span().start().line;
        let listed = group.stream().to_string().replace(' ', "");
        self.lints.extend(listed.split(',').map(|lint| (line, lint.to_owned())));
    }

    /// Notes the path that begins here, `super`s resolved, import lists taken apart.
    fn read_path(&mut self, tokens: &[TokenTree], mut base: Vec<String>) {
        let line = tokens.first().map_or(0, |token| token.span().start().line);
        let mut rest = after_colons(tokens.get(1..).unwrap_or_default());
        while let Some((token, after)) = rest.and_then(<[TokenTree]>::split_first) {
            if !is_ident(token, "super") {
                break;
            }
            base.pop();
            rest = after_colons(after);
        }
        match rest {
            Some(rest) => self.read_tree(rest, base, line),
            None => self.uses.push(Use { line, path: base }),
        }
    }

    /// Notes what follows a `::`: a name and more, a list, or a star.
    fn read_tree(&mut self, tokens: &[TokenTree], mut path: Vec<String>, line: usize) {
        match tokens.split_first() {
            Some((TokenTree::Ident(name), after)) if name != "self" => {
                path.push(name.to_string());
                match after_colons(after) {
                    Some(rest) => self.read_tree(rest, path, line),
                    None => self.uses.push(Use { line, path }),
                }
            }
            Some((TokenTree::Group(list), _)) if list.delimiter() == Delimiter::Brace => {
                self.read_list(list, &path);
            }
            Some((TokenTree::Punct(star), _)) if star.as_char() == '*' => {
                path.push("*".to_owned());
                self.uses.push(Use { line, path });
            }
            _ => self.uses.push(Use { line, path }),
        }
    }

    /// Notes every path of an import list.
    fn read_list(&mut self, list: &Group, path: &[String]) {
        let tokens: Vec<TokenTree> = list.stream().into_iter().collect();
        for part in tokens.split(|token| is_punct(token, ',')) {
            if let Some(first) = part.first() {
                self.read_tree(part, path.to_vec(), first.span().start().line);
            }
        }
    }
}

/// Where a path that begins with this token starts from: `crate::`, `self::`, `super::`; also
/// `crate as`, which gives the root another name.
fn base(token: &TokenTree, after: &[TokenTree], module: &[String]) -> Option<Vec<String>> {
    let renamed = after.first().is_some_and(|next| is_ident(next, "as"));
    let goes_on = after_colons(after).is_some();
    if is_ident(token, "crate") && (goes_on || renamed) {
        Some(Vec::new())
    } else if is_ident(token, "self") && goes_on {
        Some(module.to_vec())
    } else if is_ident(token, "super") && goes_on {
        Some(module.split_last().map(|(_, parent)| parent.to_vec()).unwrap_or_default())
    } else {
        None
    }
}

/// What follows a `::`, if one stands here.
fn after_colons(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    match tokens {
        [first, second, rest @ ..] if is_punct(first, ':') && is_punct(second, ':') => Some(rest),
        _ => None,
    }
}

/// Whether the rest of these tokens stands behind a `::`, and so in the middle of a path.
fn is_after_colons(tokens: &[TokenTree], rest: &[TokenTree]) -> bool {
    let before = tokens.get(..tokens.len() - rest.len()).unwrap_or_default();
    matches!(before, [.., first, second] if is_punct(first, ':') && is_punct(second, ':'))
}

/// `mod name { … }`, if it stands here: its name, its body, what follows.
fn inline_module(tokens: &[TokenTree]) -> Option<(String, &Group, &[TokenTree])> {
    match tokens {
        [word, name, TokenTree::Group(body), rest @ ..] if is_ident(word, "mod") => {
            Some((name.to_string(), body, rest))
        }
        _ => None,
    }
}

/// An item under `#[cfg(test)]`, if one stands here, and what follows it. An item ends with its
/// first `;` or its first braces.
fn test_item(tokens: &[TokenTree]) -> Option<(&[TokenTree], &[TokenTree])> {
    let [hash, TokenTree::Group(attribute), body @ ..] = tokens else { return None };
    let text = attribute.stream().to_string().replace(' ', "");
    let is_test = text == "cfg(test)" || text.starts_with("cfg(all(test,");
    if !is_punct(hash, '#') || !is_test {
        return None;
    }
    let is_end = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(_) | TokenTree::Ident(_) | TokenTree::Literal(_) => is_punct(token, ';'),
    };
    let end = body.iter().position(is_end).map_or(tokens.len(), |end| end + 3);
    tokens.split_at_checked(end)
}

/// Whether a token is that word.
fn is_ident(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

/// Whether a token is that sign.
fn is_punct(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

#[cfg(test)]
mod tests {
    use super::Source;

    /// The paths that a file uses as module `proxy::http`, each as `line path`.
    fn uses(text: &str) -> Vec<String> {
        let module = ["proxy".to_owned(), "http".to_owned()];
        let source = Source::read(text, &module).unwrap();
        source.uses.iter().map(|u| format!("{} {}", u.line, u.path.join("::"))).collect()
    }

    #[test]
    fn imports_are_taken_apart() {
        let read = uses("use crate::{\n rules::{self, Permit as P},\n audit::*,\n};");
        assert_eq!(read, ["2 rules", "2 rules::Permit", "3 audit::*"]);
    }

    #[test]
    fn paths_count_in_code_macros_and_attributes() {
        let read = uses(
            "#[x(with = crate::cli::f)]\nfn f() -> crate::ca::Leaf {\n m!(crate::dns::g(), 1)\n}",
        );
        assert_eq!(read, ["1 cli::f", "2 ca::Leaf", "3 dns::g"]);
    }

    #[test]
    fn super_and_self_are_resolved() {
        let read = uses("use super::super::rules::A;\nuse super::flow::B;\nuse self::c::D;");
        assert_eq!(read, ["1 rules::A", "2 proxy::flow::B", "3 proxy::http::c::D"]);
    }

    #[test]
    fn an_inline_module_is_one_deeper() {
        assert_eq!(uses("mod a {\n use super::B;\n}"), ["2 proxy::http::B"]);
    }

    #[test]
    fn another_name_for_the_root_is_seen() {
        assert_eq!(uses("use crate as root;"), ["1 "]);
    }

    #[test]
    fn visibility_and_documentation_are_no_use() {
        assert_eq!(
            uses("/// See [`crate::rules::Permit`].\npub(crate) struct A(self::B);"),
            ["2 proxy::http::B"]
        );
    }

    #[test]
    fn tests_may_use_more() {
        let read = uses("#[cfg(test)]\nmod tests {\n use crate::cli::A;\n}\nuse crate::ca::B;");
        assert_eq!(read, ["5 ca::B"]);
    }

    #[test]
    fn lines_of_tests_are_not_counted() {
        let text = "//! A.\n\n#[cfg(test)]\nmod tests {\n\n}\n#[cfg(test)]\nmod more;\nfn a() {}\n";
        let source = Source::read(text, &[]).unwrap();
        assert_eq!(source.lines_without_tests(text), 3);
        assert_eq!(source.test_modules, ["more"]);
        assert_eq!(source.functions, ["a"]);
    }

    #[test]
    fn lints_put_aside_are_seen() {
        let source = Source::read("//! A.\n#![expect(unsafe_code, reason = \"r\")]", &[]).unwrap();
        assert!(source.lints.contains(&(2, "unsafe_code".to_owned())));
    }
}
