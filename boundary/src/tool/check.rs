//! `boundary check`: what the policy says to a URL, and what there is to say about the policy.
//!
//! *Standing*: asks the engine that enforces. *Never*: resolves a name; whether an address is refused
//! that a permitted name leads to shows in a run alone.

use std::ffi::OsString;

use serde_json::{Value, json};

use super::{Error, Page, answer};
use crate::cli::{Args, Check};
use crate::config::{Config, Environment, Host as Machine, Policy, Written};
use crate::rules::{self, Code, Denial, Host, Intent, Near, Part, Rule, RuleSet, Scheme};

/// The exit status of a no, and of a policy that there is something to say about.
const NO: u8 = 1;

/// Answers what was asked.
pub(super) fn check(asked: &Check) -> Result<u8, Error> {
    if asked.asked.is_empty() {
        return look_over(all_that(asked), asked.json);
    }
    let policy = Policy::resolve(&asked.policy, &Environment::own(), &Machine)?;
    let question = Question::parse(&asked.asked)?;
    let verdict = Verdict::of(&policy, question);
    let text =
        if asked.json { format!("{}\n", verdict.json(&policy)) } else { verdict.text(&policy) };
    answer(text.as_bytes())?;
    Ok(if verdict.decided.is_ok() { 0 } else { NO })
}

/// A method and a URL, as far as they can be understood.
struct Question {
    method: String,
    url: String,
    intent: Result<Intent, Denial>,
}

impl Question {
    /// Reads `[METHOD] URL`. A URL without a scheme is one of HTTPS.
    fn parse(words: &[OsString]) -> Result<Self, Error> {
        let text = |word: &OsString| word.to_str().map(str::to_owned);
        let words: Option<Vec<String>> = words.iter().map(text).collect();
        let words = words.ok_or_else(|| Error::Url("not valid UTF-8".to_owned()))?;
        let (method, url) = match words.as_slice() {
            [url] => ("GET".to_owned(), url.clone()),
            [method, url] => (method.clone(), url.clone()),
            _ => return Err(Error::Url("a method and a URL, no more".to_owned())),
        };
        let url = without_userinfo(&url);
        let intent = intent(&method, &url)?;
        Ok(Self { method, url, intent })
    }
}

/// A URL without the name and the password in it: no client sends them there, and nobody is to see them.
fn without_userinfo(url: &str) -> String {
    let is_scheme = |scheme: &str| !scheme.contains(['/', '?', '#', '@']);
    let scheme = url.find("://").filter(|end| url.get(..*end).is_some_and(is_scheme));
    let start = scheme.map_or(0, |end| end + "://".len());
    let (scheme, rest) = url.split_at_checked(start).unwrap_or(("", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}{host}{target}")
}

/// The request that a URL means, as the proxy would read it from a client.
fn intent(method: &str, url: &str) -> Result<Result<Intent, Denial>, Error> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => Scheme::Http,
        "https" | "wss" => Scheme::Https,
        "tls" => Scheme::Tls,
        "tcp" => Scheme::Tcp,
        "ssh" => return Err(Error::Url(format!("ask for tcp://{rest}:22"))),
        other => return Err(Error::Url(format!("`{other}` is none of http, https, tls, tcp"))),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
    // What a client sends: no fragment, and blanks and what is not ASCII escaped.
    let target = target.split('#').next().unwrap_or_default();
    let target = percent_encoding::utf8_percent_encode(target, percent_encoding::CONTROLS);
    let target = target.to_string().replace(' ', "%20");
    let target = if target.starts_with('?') { format!("/{target}") } else { target };
    let (host, port) = match Host::parse_authority(authority) {
        Ok(parsed) => parsed,
        Err(unclear) => return Ok(Err(unclear.into())),
    };
    let port = port.or(scheme.default_port());
    let port = port.ok_or_else(|| Error::Url(format!("a port is missing: {url}:PORT")))?;
    Ok(match scheme {
        Scheme::Http | Scheme::Https => Intent::http(scheme, method, host, port, &target),
        Scheme::Tls | Scheme::Tcp => Ok(Intent::stream(scheme, host, port)),
    })
}

/// The method of tunnels is for a host and a port: with a URL it is no request, and in other letters
/// no method, whatever the rules say.
fn is_no_tunnel(question: &Question) -> Result<(), Denial> {
    match question.method.as_str() {
        "CONNECT" => Err(Denial::new(Code::BadRequest)),
        method if method.eq_ignore_ascii_case("CONNECT") => Err(Denial::new(Code::BadMethod)),
        _ => Ok(()),
    }
}

/// The rule that grants a question, and whether it passes on unopened: that is asked first, as the doors
/// do.
fn decide(set: &RuleSet, question: &Question) -> Result<(String, bool), Denial> {
    let intent = question.intent.clone()?;
    let stream = |scheme| Intent::stream(scheme, intent.host().clone(), intent.port());
    let unopened = match intent.scheme() {
        Scheme::Https | Scheme::Tls => &[Scheme::Tcp, Scheme::Tls][..],
        Scheme::Http | Scheme::Tcp => &[Scheme::Tcp][..],
    };
    let passed = unopened.iter().find_map(|scheme| set.decide(stream(*scheme)).ok());
    if let Some(permit) = passed {
        return Ok((permit.rule().to_owned(), intent.method().is_some()));
    }
    if intent.method().is_some() {
        is_no_tunnel(question)?;
    }
    set.decide(intent).map(|permit| (permit.rule().to_owned(), false))
}

/// What the policy says.
struct Verdict {
    question: Question,
    /// The rule that grants it, and whether it passes on unopened.
    decided: Result<(String, bool), Denial>,
    near: Option<Near>,
}

impl Verdict {
    /// Asks, and looks for what comes near where nothing grants it.
    fn of(policy: &Policy, question: Question) -> Self {
        let decided = decide(&policy.rule_set(), &question);
        let near = match &decided {
            Err(Denial {
                code: Code::NoRule | Code::AddressRefused, intent: Some(intent), ..
            }) => {
                let rules = policy.rules.iter().map(|written| &written.rule);
                rules::nearest(rules, intent, policy.reading)
            }
            Ok(_) | Err(_) => None,
        };
        Self { question, decided, near }
    }

    /// What was asked, in the spelling that is matched.
    fn asked(&self) -> String {
        match &self.question.intent {
            Ok(intent) => {
                let method = intent.method().map(|method| format!("{method} "));
                format!("{}{}", method.unwrap_or_default(), intent.url(true))
            }
            Err(_) => format!("{} {}", self.question.method, self.question.url),
        }
    }

    /// The rule that comes nearest.
    fn nearest<'a>(&self, policy: &'a Policy) -> Option<(&'a Written, &Near)> {
        let near = self.near.as_ref()?;
        Some((policy.rules.get(near.rule)?, near))
    }

    /// For people.
    fn text(&self, policy: &Policy) -> String {
        let mut page = Page::default();
        match &self.decided {
            Ok((rule, is_unopened)) => {
                page.line(format_args!("allow  {}", self.asked()));
                match policy.written(rule) {
                    Some(written) => page.line(format_args!("  by {written}")),
                    None => page.line(format_args!("  by `{rule}`")),
                }
                if *is_unopened {
                    page.line("  which passes it on unopened: nobody looks at method and path");
                }
            }
            Err(denial) => {
                page.line(format_args!("deny   {}", self.asked()));
                page.line(format_args!("  {}: {}", denial.code.as_str(), denial.code.meaning()));
                if let Some(near) = self.nearest_text(policy, denial) {
                    page.line(format_args!("  {near}"));
                }
                if let Some(remedy) = denial.remedy() {
                    let remedy = rules::quoted(&remedy);
                    page.line(format_args!("  this would permit it: --allow {remedy}"));
                }
            }
        }
        page.0
    }

    /// What the rules have to do with a refusal, if that is why it was one.
    fn nearest_text(&self, policy: &Policy, denial: &Denial) -> Option<String> {
        if let Some((rule, near)) = self.nearest(policy) {
            let missed: Vec<&str> = near.missed.iter().copied().map(Part::as_str).collect();
            return Some(match missed.as_slice() {
                [] => format!("nearest: {rule}, which does not mean guarded addresses"),
                missed => format!("nearest: {rule}, which misses the {}", missed.join(", ")),
            });
        }
        let text = match policy.rules.as_slice() {
            [] => "there is no rule at all",
            _ => "no rule is about this host",
        };
        (denial.code == Code::NoRule).then(|| text.to_owned())
    }

    /// For machines.
    fn json(&self, policy: &Policy) -> Value {
        let url = self.question.intent.as_ref().map(|intent| intent.url(true));
        let url = url.unwrap_or_else(|_| self.question.url.clone());
        let method = self.question.intent.as_ref().ok().and_then(|intent| intent.method());
        let method = method.map(rules::Method::as_str);
        match &self.decided {
            Ok((rule, is_unopened)) => json!({
                "decision": "allow",
                "method": method,
                "url": url,
                "matched_rule": rule,
                "source": policy.written(rule).map(Written::place),
                "unopened": is_unopened,
            }),
            Err(denial) => json!({
                "decision": "deny",
                "method": method,
                "url": url,
                "code": denial.code.as_str(),
                "nearest": self.nearest(policy).map(|(rule, near)| json!({
                    "rule": rule.rule.as_str(),
                    "source": rule.place(),
                    "missed": near.missed.iter().map(|part| part.as_str()).collect::<Vec<_>>(),
                })),
                "remedy": denial.remedy(),
            }),
        }
    }
}

/// One thing that is said about a policy.
struct Said {
    kind: &'static str,
    place: String,
    rule: Option<String>,
    what: String,
}

impl Said {
    fn json(&self) -> Value {
        json!({ "kind": self.kind, "source": self.place, "rule": self.rule, "what": self.what })
    }
}

/// The policy, if a run with this file and these variables would take them: the rest of what they say is
/// looked at too.
fn all_that(asked: &Check) -> Result<Policy, crate::config::Error> {
    let nothing = vec![OsString::from("true")];
    let args = Args { policy: asked.policy.clone(), command: nothing, ..Args::default() };
    Config::resolve(args, &Environment::own(), &Machine).map(|config| config.policy)
}

/// Says what there is to say about the policy itself.
fn look_over(policy: Result<Policy, crate::config::Error>, json: bool) -> Result<u8, Error> {
    let (count, said) = match policy {
        Ok(policy) => (policy.rules.len(), findings(&policy)),
        Err(error) => (0, Policy::mistakes(error, &Machine).iter().map(mistake).collect()),
    };
    let text = if json {
        let findings: Vec<Value> = said.iter().map(Said::json).collect();
        format!("{}\n", json!({ "rules": count, "findings": findings }))
    } else if said.is_empty() {
        match count {
            0 => "no rules: everything is denied\n".to_owned(),
            1 => "1 rule, nothing to say about it\n".to_owned(),
            _ => format!("{count} rules, nothing to say about them\n"),
        }
    } else {
        said.iter().map(line).collect()
    };
    answer(text.as_bytes())?;
    Ok(if said.is_empty() { 0 } else { NO })
}

/// A mistake that keeps the policy from being read.
fn mistake(error: &crate::config::Error) -> Said {
    Said { kind: "mistake", place: String::new(), rule: None, what: error.to_string() }
}

/// One line for people, with the place in front where editors look for it.
fn line(said: &Said) -> String {
    let Said { kind, place, rule, what } = said;
    match rule {
        Some(rule) => format!("{place}: `{rule}`: {what} [{kind}]\n"),
        None => format!("{what} [{kind}]\n"),
    }
}

/// What the lint says about a policy that can be read.
fn findings(policy: &Policy) -> Vec<Said> {
    let rules: Vec<&Rule> = policy.rules.iter().map(|written| &written.rule).collect();
    let said = |finding: rules::Finding| {
        let written = policy.rules.get(finding.rule)?;
        Some(Said {
            kind: finding.kind.as_str(),
            place: written.place(),
            rule: Some(written.rule.to_string()),
            what: finding.what,
        })
    };
    rules::lint(&rules, policy.reading).into_iter().filter_map(said).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_neither_decided_by_nor_shown() {
        for (url, read) in [
            ("https://u:SECRET@ex.test/x", "https://ex.test/x"),
            ("u:SECRET@ex.test", "ex.test"),
            ("https://u:SECRET@ex.test:99/a@b?c://d@e", "https://ex.test:99/a@b?c://d@e"),
            ("https://u:SEC@RET@ex.test?q", "https://ex.test?q"),
            ("u:SECRET@ex.test/https://a@b/", "ex.test/https://a@b/"),
            ("ex.test/a@b", "ex.test/a@b"),
        ] {
            assert_eq!(without_userinfo(url), read, "{url}");
        }
        let question = Question::parse(&["https://u:SECRET@ex.test/x".into()]).expect("a URL");
        assert_eq!(question.intent.expect("clear").url(true), "https://ex.test/x");
        assert!(!question.url.contains("SECRET"), "{}", question.url);
    }
}
