//! A record as plain data, and its two faces: the JSON object and the line for people.
//!
//! *Never*: holds what a request carried, only what it asked for.

use std::sync::Arc;

use jiff::Timestamp;
use serde::ser::{Serialize, SerializeMap, Serializer};
use tracing::Level;
use uuid::Uuid;

use super::line::Line;
use super::{Decision, Labels, OnError, Process, Subject, Tally};
use crate::rules::{Code, Denial, Intent, Permit, Scheme};

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
}

/// One decision, or what became of it.
#[derive(Debug, Clone)]
pub struct Record {
    session: Arc<Session>,
    pub(super) event_time: Timestamp,
    /// None for the confession that records were lost.
    pub(super) sequence: Option<u64>,
    allowed: Option<bool>,
    code: Option<&'static str>,
    remedy: Option<String>,
    matched_rule: Option<String>,
    proto: Option<&'static str>,
    http_method: Option<String>,
    http_url: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    address: Option<String>,
    door: Option<&'static str>,
    process: Option<Process>,
    dns_type: Option<String>,
    /// In a closing record only: what was carried, and for how many milliseconds.
    end: Option<(Tally, u64)>,
    dropped: Option<u64>,
    /// The host with its port where that is not the scheme's own, for people.
    authority: Option<String>,
    /// How important it is to a person.
    level: Level,
}

impl Record {
    /// A record that says nothing yet.
    fn empty(session: &Arc<Session>) -> Self {
        Self {
            session: Arc::clone(session),
            event_time: Timestamp::UNIX_EPOCH,
            sequence: None,
            allowed: None,
            code: None,
            remedy: None,
            matched_rule: None,
            proto: None,
            http_method: None,
            http_url: None,
            host: None,
            port: None,
            address: None,
            door: None,
            process: None,
            dns_type: None,
            end: None,
            dropped: None,
            authority: None,
            level: Level::INFO,
        }
    }

    /// The record of a decision; its time and number are put in when it is put in the queue.
    pub(super) fn opening(session: &Arc<Session>, subject: &Subject, decision: Decision) -> Self {
        let mut record = Self::empty(session);
        record.door = Some(subject.door.as_str());
        record.process.clone_from(&subject.process);
        record.address = subject.target.map(|target| target.ip().to_string());
        record.port = subject.target.map(|target| target.port());
        record.level = decision.level();
        match decision {
            Decision::Allow(permit) => record.allow(&permit),
            Decision::Deny(denial) => record.deny(&denial),
            Decision::Dns { name, kind, refused } => {
                record.allowed = Some(refused.is_none());
                record.code = refused.map(Code::as_str);
                record.proto = Some("dns");
                record.host = Some(name);
                record.dns_type = Some(kind);
            }
            Decision::Dropped { proto, code, host } => {
                record.allowed = Some(false);
                record.code = Some(code.as_str());
                record.proto = Some(proto);
                record.host = host.map(|host| host.to_string());
            }
            Decision::Withheld { socket } => {
                record.allowed = Some(false);
                record.code = Some(Code::UnixSocket.as_str());
                record.proto = Some("unix");
                record.address = Some(socket);
            }
        }
        record
    }

    /// What was granted, by which rule.
    fn allow(&mut self, permit: &Permit) {
        self.allowed = Some(true);
        self.matched_rule = Some(permit.rule().to_owned());
        self.intent(permit.intent());
    }

    /// What was refused, as far as it could be understood.
    fn deny(&mut self, denial: &Denial) {
        self.allowed = Some(false);
        self.code = Some(denial.code.as_str());
        self.remedy = denial.remedy();
        if let Some(intent) = &denial.intent {
            self.intent(intent);
        }
    }

    /// What was asked for.
    fn intent(&mut self, intent: &Intent) {
        self.proto = Some(match intent.scheme() {
            Scheme::Http | Scheme::Https => "http",
            Scheme::Tls => "tls",
            Scheme::Tcp => "tcp",
        });
        self.host = Some(intent.host().bare());
        self.port = Some(intent.port());
        self.authority = Some(intent.authority());
        if let Some(method) = intent.method() {
            self.http_method = Some(method.as_str().to_owned());
            self.http_url = Some(intent.url(self.session.query));
        }
    }

    /// The record of a decision's end.
    pub(super) fn closing(
        session: &Arc<Session>,
        opening: (u64, bool),
        address: Option<String>,
        end: (Tally, u64),
    ) -> Self {
        Self {
            sequence: Some(opening.0),
            allowed: Some(opening.1),
            address,
            end: Some(end),
            ..Self::empty(session)
        }
    }

    /// The confession that so many records are missing.
    pub(super) fn lost(session: &Arc<Session>, event_time: Timestamp, dropped: u64) -> Self {
        Self {
            event_time,
            code: Some("records_dropped"),
            dropped: Some(dropped),
            ..Self::empty(session)
        }
    }

    /// The method and the URL, where it is about a request.
    pub(super) fn request(&self) -> Option<(&str, &str)> {
        self.http_method.as_deref().zip(self.http_url.as_deref())
    }

    /// The rule that granted it.
    pub(super) fn rule(&self) -> Option<&str> {
        self.matched_rule.as_deref()
    }

    /// How important it is; what is missing is.
    pub(super) fn level(&self) -> Level {
        if self.dropped.is_some() { Level::ERROR } else { self.level }
    }

    /// Whether it was granted.
    pub(super) fn is_allowed(&self) -> bool {
        self.allowed == Some(true)
    }

    /// The line for people: the Go tool's keys for HTTP, and the address for what never became that.
    pub(super) fn line(&self) -> Line {
        let text = |key, value: &Option<String>| value.clone().map(|value| (key, value));
        let word = |key, value: Option<&str>| value.map(|value| (key, value.to_owned()));
        let rule = text("rule", &self.matched_rule);
        let fields: Vec<_> = if self.http_method.is_some() {
            let method = text("method", &self.http_method);
            let url = text("url", &self.http_url);
            [method, url, text("host", &self.authority), rule].into_iter().flatten().collect()
        } else {
            let host = self.authority.as_ref().or(self.host.as_ref()).cloned();
            let address = self.address.as_ref().filter(|_| host.is_none());
            let port = self.port.filter(|_| host.is_none()).map(|port| port.to_string());
            [
                word("proto", self.proto),
                host.map(|host| ("host", host)),
                address.map(|address| ("address", address.clone())),
                port.map(|port| ("port", port)),
                word("code", self.code),
                rule,
            ]
            .into_iter()
            .flatten()
            .collect()
        };
        let message = if self.is_allowed() { "ALLOW" } else { "DENY" };
        Line { time: self.event_time, level: self.level, message: message.to_owned(), fields }
    }
}

impl Labels {
    /// Puts in what is known.
    pub(super) fn put<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        put(map, "workspace_id", self.workspace_id.as_ref())?;
        put(map, "workspace_name", self.workspace_name.as_ref())?;
        put(map, "owner", self.owner.as_ref())?;
        put(map, "template_id", self.template_id.as_ref())?;
        put(map, "template_version_id", self.template_version_id.as_ref())
    }
}

/// Puts a field in if there is one.
pub(super) fn put<M: SerializeMap>(
    map: &mut M,
    key: &'static str,
    value: Option<impl Serialize>,
) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(key, &value))
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let opening = self.end.is_none() && self.dropped.is_none();
        let process = self.process.as_ref();
        let exe = process.and_then(|process| process.exe.as_ref());
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("event_time", &format_args!("{:.9}", self.event_time))?;
        map.serialize_entry("session_id", &format_args!("{}", self.session.id))?;
        put(&mut map, "event", self.dropped.map(|_| "lost"))?;
        put(&mut map, "sequence", self.sequence)?;
        put(&mut map, "decision", self.allowed.map(|yes| if yes { "allow" } else { "deny" }))?;
        put(&mut map, "code", self.code)?;
        put(&mut map, "remedy", self.remedy.as_ref())?;
        put(&mut map, "matched_rule", self.matched_rule.as_ref())?;
        put(&mut map, "proto", self.proto)?;
        put(&mut map, "dns_type", self.dns_type.as_ref())?;
        put(&mut map, "http_method", self.http_method.as_ref())?;
        put(&mut map, "http_url", self.http_url.as_ref())?;
        put(&mut map, "host", self.host.as_ref())?;
        put(&mut map, "port", self.port)?;
        put(&mut map, "address", self.address.as_ref())?;
        put(&mut map, "door", self.door)?;
        put(&mut map, "jail", opening.then_some(self.session.jail))?;
        put(&mut map, "pid", process.map(|process| process.pid))?;
        put(&mut map, "exe", exe.map(|exe| exe.to_string_lossy()))?;
        put(&mut map, "comm", process.map(|process| &process.comm))?;
        put(&mut map, "uid", process.map(|process| process.uid))?;
        let parents = process.map(|process| &process.parents);
        put(&mut map, "parents", parents.filter(|parents| !parents.is_empty()).map(|all| &**all))?;
        put(&mut map, "cgroup", process.map(|process| process.cgroup).filter(|&id| id != 0))?;
        put(&mut map, "http_status", self.end.and_then(|(tally, _)| tally.http_status))?;
        put(&mut map, "bytes_up", self.end.map(|(tally, _)| tally.bytes_up))?;
        put(&mut map, "bytes_down", self.end.map(|(tally, _)| tally.bytes_down))?;
        put(&mut map, "duration_ms", self.end.map(|(_, duration)| duration))?;
        put(&mut map, "dropped", self.dropped)?;
        if opening {
            self.session.labels.put(&mut map)?;
        }
        map.end()
    }
}
