//! Which records are shown.

use jiff::{Span, Timestamp, Zoned, civil};

use crate::audit::file::Saved;

/// What is looked for. Kinds are joined by *and*, the values of one kind by *or*.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// Hosts with their subdomains, or addresses.
    pub(super) hosts: Vec<String>,
    /// `allow` or `deny`.
    pub(super) decision: Option<String>,
    /// Names, executables or numbers of processes.
    pub(super) processes: Vec<String>,
    /// Nothing before.
    pub(super) since: Option<Timestamp>,
}

impl Filter {
    /// Whether the record of a decision is looked for.
    pub(super) fn takes(&self, saved: &Saved) -> bool {
        let decision = self.decision.as_ref().is_none_or(|it| saved.decision.as_ref() == Some(it));
        let is_any = |all: &[String], fits: &dyn Fn(&str) -> bool| {
            all.is_empty() || all.iter().any(|it| fits(it))
        };
        decision
            && self.is_since(saved)
            && is_any(&self.hosts, &|host| is_to(saved, host))
            && is_any(&self.processes, &|process| is_by(saved, process))
    }

    /// Whether a record is late enough. One without a time is shown, not lost.
    pub(super) fn is_since(&self, saved: &Saved) -> bool {
        let Some(since) = self.since else { return true };
        saved.event_time.is_none_or(|time| time >= since)
    }

    /// Whether only some decisions are looked for, so that what is between them says nothing.
    pub(super) fn is_narrow(&self) -> bool {
        self.decision.is_some() || !self.hosts.is_empty() || !self.processes.is_empty()
    }
}

/// Whether it was asked for this host, one below it, or this address.
fn is_to(saved: &Saved, wanted: &str) -> bool {
    let wanted = wanted.trim_end_matches('.').trim_start_matches("*.").to_ascii_lowercase();
    let host = saved.host.as_deref().unwrap_or_default().to_ascii_lowercase();
    let below = host.strip_suffix(&wanted).is_some_and(|rest| rest.ends_with('.'));
    host == wanted || below || saved.address.as_deref() == Some(&wanted)
}

/// Whether this process asked, or one that it started.
fn is_by(saved: &Saved, wanted: &str) -> bool {
    let number: Option<u32> = wanted.parse().ok();
    let exe = saved.exe.as_deref().unwrap_or_default();
    let base = exe.rsplit('/').next().filter(|base| !base.is_empty());
    let own = saved.comm.as_deref() == Some(wanted)
        || exe == wanted
        || base == Some(wanted)
        || (number.is_some() && saved.pid == number);
    own || saved.parents.iter().any(|it| it.comm == wanted || Some(it.pid) == number)
}

/// A moment: so long ago, a time of today, a date, or all of it.
pub(super) fn moment(text: &str, now: &Zoned) -> Option<Timestamp> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    let zone = now.time_zone().clone();
    if let Ok(time) = text.parse::<civil::DateTime>() {
        return Some(time.to_zoned(zone).ok()?.timestamp());
    }
    if text.contains(':')
        && let Ok(time) = text.parse::<civil::Time>()
    {
        return Some(now.date().to_datetime(time).to_zoned(zone).ok()?.timestamp());
    }
    let ago: Span = text.parse().ok()?;
    Some(now.checked_sub(ago.abs()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::*;

    fn saved() -> Saved {
        serde_json::from_value(json!({
            "event_time": "2026-05-01T12:00:00Z", "decision": "deny", "host": "api.example.com",
            "address": "192.0.2.1", "pid": 42, "comm": "node", "exe": "/usr/bin/nodejs",
            "parents": [{"pid": 41, "comm": "npm install"}],
        }))
        .unwrap()
    }

    fn of_host(host: &str) -> bool {
        Filter { hosts: vec![host.to_owned()], ..Filter::default() }.takes(&saved())
    }

    fn of_process(process: &str) -> bool {
        Filter { processes: vec![process.to_owned()], ..Filter::default() }.takes(&saved())
    }

    #[test]
    fn a_host_stands_for_those_below_it_and_for_no_other() {
        for fits in ["api.example.com", "example.com", "Example.COM.", "*.example.com", "192.0.2.1"]
        {
            assert!(of_host(fits), "{fits}");
        }
        for other in ["xample.com", "www.api.example.com", "example.org", "192.0.2.10"] {
            assert!(!of_host(other), "{other}");
        }
    }

    #[test]
    fn a_process_is_known_by_its_name_executable_or_number_or_by_who_started_it() {
        for fits in ["node", "nodejs", "/usr/bin/nodejs", "42", "41", "npm install"] {
            assert!(of_process(fits), "{fits}");
        }
        for other in ["nod", "4", "bin", ""] {
            assert!(!of_process(other), "{other}");
        }
    }

    #[test]
    fn kinds_are_joined_by_and_values_of_a_kind_by_or() {
        let with = |decision: &str, hosts: &[&str]| {
            let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
            Filter { hosts, decision: Some(decision.to_owned()), ..Filter::default() }
        };
        assert!(with("deny", &["other.test", "example.com"]).takes(&saved()));
        assert!(!with("deny", &["other.test"]).takes(&saved()));
        assert!(!with("allow", &["example.com"]).takes(&saved()));
    }

    #[test]
    fn since_leaves_out_what_was_before() {
        let since = |text: &str| Filter { since: text.parse().ok(), ..Filter::default() };
        assert!(since("2026-05-01T12:00:00Z").takes(&saved()));
        assert!(!since("2026-05-01T12:00:01Z").takes(&saved()));
    }

    #[test]
    fn a_moment_is_said_in_any_of_the_usual_ways() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now = "2026-05-01T12:00:00Z".parse::<Timestamp>().unwrap().to_zoned(zone);
        let read = |text: &str| moment(text, &now).map(|moment| moment.to_string());
        for (text, expected) in [
            ("2026-04-30T10:00:00Z", "2026-04-30T10:00:00Z"),
            ("2026-04-30T10:00", "2026-04-30T08:00:00Z"),
            ("2026-04-30", "2026-04-29T22:00:00Z"),
            ("13:30", "2026-05-01T11:30:00Z"),
            ("10m", "2026-05-01T11:50:00Z"),
            ("2h 30m", "2026-05-01T09:30:00Z"),
            ("1d", "2026-04-30T12:00:00Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(read("yesterday-ish"), None);
    }
}
