//! A record and its two faces: the fields of the JSON object, and the line for people.
//!
//! It keeps what was decided as it was decided; its words are put together by whoever writes them, not
//! on the way of the request.
//!
//! *Never*: holds what a request carried, only what it asked for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::Level;
use uuid::Uuid;

use super::alike::{Alike, Place};
use super::line::Head;
use super::object::{Fields, Value};
use super::{Decision, Format, Labels, OnError, Process, Subject, Tally};
use crate::rules::{Asked, Code, Intent, Method, Scheme};

/// What all records of a session have in common.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// The session's own id.
    pub id: Uuid,
    /// The jail that was raised.
    pub jail: &'static str,
    /// What the workspace says of itself.
    pub labels: Labels,
    /// Whether a URL's query is recorded.
    pub query: bool,
    /// What happens to requests when the audit file cannot be written.
    pub on_error: OnError,
    /// The name of the command's program, without its folder.
    pub command: String,
    /// The policy's rules as they were written.
    pub rules: Vec<String>,
    /// How `domain=` is read.
    pub domain_match: &'static str,
    /// What else decides beside the rules, or instead of them: `learn`, `prompt`, `use_real_dns`.
    pub modes: Vec<String>,
    /// The unix sockets of the host that the command may use.
    pub unix_sockets: Vec<String>,
}

/// One decision, or the confession that some are missing.
#[derive(Debug)]
pub struct Record {
    session: Arc<Session>,
    pub(super) event_time: Timestamp,
    /// The number of the decision; none for a confession.
    pub(super) sequence: Option<u64>,
    what: What,
}

/// What a record is about.
#[derive(Debug)]
enum What {
    /// Who asked, and what was decided. Its words are put together where they are written.
    Decided(Subject, Decision),
    /// How many are missing, and why.
    Lost(Loss, u64),
}

/// A request, as it is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'a> {
    /// In its one spelling.
    Clear(&'a Intent),
    /// In its own words.
    Unclear(&'a Asked),
}

impl<'a> Request<'a> {
    /// The method.
    pub(super) fn method(&self) -> &'a str {
        let method = match self {
            Self::Clear(intent) => intent.method().map(Method::as_str),
            Self::Unclear(asked) => asked.method(),
        };
        method.unwrap_or_default()
    }

    /// The URL piece by piece.
    pub(super) fn tell_url(&self, query: bool, tell: &mut impl FnMut(&str)) {
        match self {
            Self::Clear(intent) => intent.tell_url(query, tell),
            Self::Unclear(asked) => asked.tell_url(query, tell),
        }
    }

    /// The URL as a field.
    fn url(self, query: bool) -> Value<'a> {
        match self {
            Self::Clear(intent) => Value::Url(intent, query),
            Self::Unclear(asked) => asked.url(query).into(),
        }
    }
}

/// Room for what a line for people is put together from, kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    url: String,
    host: String,
}

/// Why something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// A sink could not take records.
    Records,
    /// The jail refused faster than it could be recorded.
    Refusals,
}

impl Record {
    /// The record of a decision; its time and number are put in when it is put in the queue.
    pub(super) fn opening(session: &Arc<Session>, subject: &Subject, decision: Decision) -> Self {
        let what = What::Decided(subject.clone(), decision);
        let session = Arc::clone(session);
        Self { session, event_time: Timestamp::UNIX_EPOCH, sequence: None, what }
    }

    /// The confession that so many are missing.
    pub(super) fn lost(
        session: &Arc<Session>,
        event_time: Timestamp,
        (loss, count): (Loss, u64),
    ) -> Self {
        let session = Arc::clone(session);
        Self { session, event_time, sequence: None, what: What::Lost(loss, count) }
    }

    /// What was asked for, where it was understood.
    fn intent(&self) -> Option<&Intent> {
        match &self.what {
            What::Decided(_, decision) => decision.intent(),
            What::Lost(..) => None,
        }
    }

    /// The request, where it is about one, and whether its query is told.
    pub(super) fn request(&self) -> Option<(Request<'_>, bool)> {
        match &self.what {
            What::Decided(_, decision) => Some((decision.request()?, self.session.query)),
            What::Lost(..) => None,
        }
    }

    /// The rule that granted it.
    pub(super) fn rule(&self) -> Option<&str> {
        match &self.what {
            What::Decided(_, Decision::Allow(permit)) => Some(permit.rule()),
            What::Decided(..) | What::Lost(..) => None,
        }
    }

    /// How important it is; what is missing is.
    pub(super) fn level(&self) -> Level {
        match &self.what {
            What::Decided(_, decision) => decision.level(),
            What::Lost(..) => Level::ERROR,
        }
    }

    /// Whether it was granted.
    pub(super) fn is_allowed(&self) -> bool {
        matches!(&self.what, What::Decided(_, decision) if decision.is_allowed())
    }

    /// Appends the line for people: the Go tool's keys for HTTP, and the address for what never became
    /// that.
    pub(super) fn render(
        &self,
        (format, zone): (Format, &TimeZone),
        Scratch { url, host }: &mut Scratch,
        out: &mut Vec<u8>,
    ) {
        let What::Decided(subject, decision) = &self.what else { return };
        let request = self.request();
        url.clear();
        host.clear();
        if let Some(intent) = decision.intent() {
            intent.tell_authority(&mut |piece| host.push_str(piece));
        } else if let Some(asked) = decision.asked() {
            asked.tell_authority(&mut |piece| host.push_str(piece));
        }
        if let Some((request, query)) = request {
            request.tell_url(query, &mut |piece| url.push_str(piece));
        }
        let url = request.map(|_| url.as_str());
        let method = request.as_ref().map(|(request, _)| request.method());
        let named = decision.host();
        let host = Some(host.as_str()).filter(|host| !host.is_empty()).or(named.as_deref());
        let place = Some(subject).filter(|_| host.is_none());
        let address = place.and_then(|subject| decision.address(subject));
        let port = place.and_then(|subject| subject.target).map(|target| target.port().to_string());
        let code = match request {
            Some((Request::Clear(_), _)) => None,
            Some((Request::Unclear(_), _)) | None => decision.code(),
        };
        let fields = [
            ("method", method),
            ("url", url),
            ("proto", decision.proto().filter(|_| request.is_none())),
            ("host", host),
            ("address", address.as_deref()),
            ("port", port.as_deref()),
            ("code", code.map(Code::as_str)),
            ("rule", self.rule()),
        ];
        let message = if self.is_allowed() { "ALLOW" } else { "DENY" };
        let head = Head { time: self.event_time, level: self.level(), message };
        let fields = fields.into_iter().filter_map(|(key, value)| Some((key, value?)));
        head.render(fields, (format, zone), out);
    }

    /// The fields of a decision; but for what others have alike, where there is such.
    fn decided<'a>(
        &'a self,
        (subject, decision): (&'a Subject, &'a Decision),
        tell: &mut dyn FnMut(&'static str, Value<'a>),
    ) {
        let mut put = |name, value: Option<Value<'a>>| {
            if let Some(value) = value {
                tell(name, value);
            }
        };
        let intent = self.intent();
        put("decision", Some(verdict(decision.is_allowed()).into()));
        put("code", decision.code().map(|code| code.as_str().into()));
        put("remedy", decision.remedy().map(Value::from));
        put("matched_rule", self.rule().map(Value::from));
        put("proto", decision.proto().map(Value::from));
        put("dns_type", decision.question().map(Value::from));
        let request = self.request();
        put("http_method", request.as_ref().map(|(request, _)| request.method().into()));
        put("http_url", request.map(|(request, query)| request.url(query)));
        if intent.is_none() {
            let place = decision.place(subject.target);
            place.fields((&self.session, subject), tell);
        }
    }
}

/// A verdict's word.
fn verdict(is_allowed: bool) -> &'static str {
    if is_allowed { "allow" } else { "deny" }
}

impl Decision {
    /// What would permit it, where a rule could.
    fn remedy(&self) -> Option<String> {
        match self {
            Self::Deny(denial) => denial.remedy(),
            Self::Allow(_) | Self::Dns { .. } | Self::Dropped { .. } | Self::Withheld { .. } => {
                None
            }
        }
    }

    /// What was spoken.
    fn proto(&self) -> Option<&'static str> {
        let of = |scheme: Scheme| match scheme {
            Scheme::Http | Scheme::Https => "http",
            Scheme::Tls => "tls",
            Scheme::Tcp => "tcp",
        };
        match self {
            Self::Allow(_) | Self::Deny(_) => {
                let asked = || self.asked().map(Asked::scheme);
                self.intent().map(Intent::scheme).or_else(asked).map(of)
            }
            Self::Dns { .. } => Some("dns"),
            Self::Dropped { proto, .. } => Some(proto),
            Self::Withheld { .. } => Some("unix"),
        }
    }

    /// The type of a question.
    fn question(&self) -> Option<&str> {
        match self {
            Self::Dns { kind, .. } => Some(kind),
            Self::Allow(_) | Self::Deny(_) | Self::Dropped { .. } | Self::Withheld { .. } => None,
        }
    }

    /// Where it was to go, where no intent says so.
    fn place(&self, target: Option<SocketAddr>) -> Place<'_> {
        let address = match self {
            Self::Withheld { socket } => Some(socket.as_str().into()),
            Self::Allow(_) | Self::Deny(_) | Self::Dns { .. } | Self::Dropped { .. } => {
                target.map(|target| Value::Address(target.ip()))
            }
        };
        let port = self.asked().map(Asked::port).or(target.map(|target| target.port()));
        Place { host: self.host().map(Value::from), port, address }
    }

    /// The host, where no intent names it.
    fn host(&self) -> Option<String> {
        match self {
            Self::Dns { name, .. } => Some(name.clone()),
            Self::Dropped { host, .. } => host.as_ref().map(ToString::to_string),
            Self::Deny(_) => self.asked().map(|asked| asked.host().bare()),
            Self::Allow(_) | Self::Withheld { .. } => None,
        }
    }

    /// The address, for people.
    fn address(&self, subject: &Subject) -> Option<String> {
        match self {
            Self::Withheld { socket } => Some(socket.clone()),
            Self::Allow(_) | Self::Deny(_) | Self::Dns { .. } | Self::Dropped { .. } => {
                subject.target.map(|target| target.ip().to_string())
            }
        }
    }
}

impl Process {
    /// Tells who it is, as far as that is known.
    pub(super) fn put<'a>(&'a self, tell: &mut dyn FnMut(&'static str, Value<'a>)) {
        if self.pid != 0 {
            tell("pid", u64::from(self.pid).into());
        }
        if let Some(exe) = &self.exe {
            tell("exe", Value::Text(exe.to_string_lossy()));
        }
        if !self.comm.is_empty() {
            tell("comm", self.comm.as_str().into());
        }
        tell("uid", u64::from(self.uid).into());
        if !self.parents.is_empty() {
            tell("parents", Value::Parents(&self.parents));
        }
        if self.cgroup != 0 {
            tell("cgroup", self.cgroup.into());
        }
    }
}

impl Labels {
    /// Tells what is known.
    pub(super) fn put<'a>(&'a self, tell: &mut dyn FnMut(&'static str, Value<'a>)) {
        for (name, value) in [
            ("workspace_id", &self.workspace_id),
            ("workspace_name", &self.workspace_name),
            ("owner", &self.owner),
            ("template_id", &self.template_id),
            ("template_version_id", &self.template_version_id),
        ] {
            if let Some(value) = value {
                tell(name, value.as_str().into());
            }
        }
    }
}

impl Fields for Record {
    fn fields<'a>(&'a self, tell: &mut dyn FnMut(&'static str, Value<'a>)) {
        tell("event_time", Value::Time(self.event_time));
        tell("session_id", Value::Id(self.session.id));
        if let Some(sequence) = self.sequence {
            tell("sequence", sequence.into());
        }
        match &self.what {
            What::Decided(subject, decision) => self.decided((subject, decision), tell),
            What::Lost(loss, count) => {
                let (code, name) = match loss {
                    Loss::Records => ("records_dropped", "dropped"),
                    Loss::Refusals => ("refusals_lost", "refusals_lost"),
                };
                tell("event", "lost".into());
                tell("code", code.into());
                tell(name, (*count).into());
            }
        }
    }

    fn alike(&self) -> Option<Alike<'_>> {
        let What::Decided(subject, decision) = &self.what else { return None };
        Some(Alike { session: &self.session, subject, intent: decision.intent()? })
    }
}

/// What became of a decision: its closing record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    /// The session's id.
    pub(super) session: Uuid,
    pub(super) event_time: Timestamp,
    /// The number of the decision.
    pub(super) sequence: u64,
    pub(super) is_allowed: bool,
    /// What was dialled.
    pub(super) address: Option<IpAddr>,
    pub(super) tally: Tally,
    pub(super) duration_ms: u64,
}

impl Fields for Outcome {
    fn fields<'a>(&'a self, tell: &mut dyn FnMut(&'static str, Value<'a>)) {
        tell("event_time", Value::Time(self.event_time));
        tell("session_id", Value::Id(self.session));
        tell("sequence", self.sequence.into());
        tell("decision", verdict(self.is_allowed).into());
        if let Some(address) = self.address {
            tell("address", Value::Address(address));
        }
        if let Some(status) = self.tally.http_status {
            tell("http_status", u64::from(status).into());
        }
        tell("bytes_up", self.tally.bytes_up.into());
        tell("bytes_down", self.tally.bytes_down.into());
        tell("duration_ms", self.duration_ms.into());
    }
}
