//! A record as it stands in a file.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use crate::audit::Parent;

/// What a line says. Which fields there are depends on what was decided; docs/record.md has them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Saved {
    /// When.
    #[serde(deserialize_with = "time")]
    pub event_time: Option<Timestamp>,
    /// Which session.
    pub session_id: String,
    /// What happened to the session itself; none in the record of a decision.
    pub event: Option<Event>,
    /// The number of the decision; its closing record has the same.
    pub sequence: Option<u64>,
    /// `allow` or `deny`.
    pub decision: Option<String>,
    /// Why it was refused.
    pub code: Option<String>,
    /// The rule that would permit it, where one could.
    pub remedy: Option<String>,
    /// The rule that granted it.
    pub matched_rule: Option<String>,
    /// `http`, `tls`, `tcp`, `dns`, `udp`, `unix`, ….
    pub proto: Option<String>,
    /// The type of a question.
    pub dns_type: Option<String>,
    /// The method.
    pub http_method: Option<String>,
    /// The URL.
    pub http_url: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The address meant; in a closing record the one that was dialled.
    pub address: Option<String>,
    /// By which door.
    pub door: Option<String>,
    /// Behind which jail.
    pub jail: Option<String>,
    /// The process.
    pub pid: Option<u32>,
    /// Its executable.
    pub exe: Option<String>,
    /// Its name.
    pub comm: Option<String>,
    /// Its user.
    pub uid: Option<u32>,
    /// Who started it, the nearest first.
    pub parents: Vec<Parent>,
    /// Its cgroup.
    pub cgroup: Option<u64>,
    /// The status that the client saw.
    pub http_status: Option<u16>,
    /// Bytes of content from the client; in the session's last record, of all.
    pub bytes_up: Option<u64>,
    /// Bytes of content to the client; in the session's last record, of all.
    pub bytes_down: Option<u64>,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// How many records are missing here; in the session's last record, in all.
    pub dropped: Option<u64>,
    /// The name of the command's program, in the session's first record.
    pub command: Option<String>,
    /// boundary's version, in the session's first record.
    pub version: Option<String>,
    /// The policy, in the session's first record, and where it has changed.
    pub rules: Option<Vec<String>>,
    /// How `domain=` is read, in the session's first record.
    pub domain_match: Option<String>,
    /// By what the policy has changed.
    pub cause: Option<String>,
    /// How many were granted, in the session's last record.
    pub allowed: Option<u64>,
    /// How many refusals of the jail came faster than they could be recorded: since the last record
    /// about that, or in all, in the session's last record.
    pub refusals_lost: Option<u64>,
    /// How many were refused, in the session's last record.
    pub denied: Option<u64>,
    /// How many requests the workspace agent did not get, in the session's last record.
    pub undelivered: Option<u64>,
    /// How much processor time the command took, in the session's last record.
    pub cpu_ms: Option<u64>,
    /// The most memory it had at once, in the session's last record.
    pub memory_peak: Option<u64>,
    /// How many processes and threads it started, in the session's last record.
    pub tasks: Option<u64>,
    /// The workspace's id.
    pub workspace_id: Option<String>,
    /// The workspace's name.
    pub workspace_name: Option<String>,
    /// Who owns the workspace.
    pub owner: Option<String>,
    /// The id of the template it was made from.
    pub template_id: Option<String>,
    /// The id of the template's version.
    pub template_version_id: Option<String>,
    /// The hash of the line before it of the same session.
    pub prev: Option<String>,
}

impl Saved {
    /// Whether it is the record of a decision, not of what became of it.
    pub fn is_opening(&self) -> bool {
        self.sequence.is_some() && self.duration_ms.is_none()
    }

    /// Whether it says what became of a decision.
    pub fn is_closing(&self) -> bool {
        self.sequence.is_some() && self.duration_ms.is_some()
    }
}

/// What happens to a session itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// It began.
    Start,
    /// It goes on in another file.
    Continued,
    /// It ended.
    End,
    /// Its policy has changed.
    Policy,
    /// Records were lost.
    Lost,
    /// Something that this version does not know.
    #[serde(other)]
    Other,
}

/// A time, or none where it is not one.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}
