//! The agent's messages, by their published field numbers, and the frames that carry them.
//!
//! *Never*: makes a frame that a reader would refuse.

use prost::{Message as _, Oneof};

use crate::audit::record::Record;

/// The longest payload that a reader takes.
pub(super) const MAX_PAYLOAD: usize = 1 << 15;

/// How a payload is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// The bare request: all that the first agents know.
    Bare = 1,
    /// One of several messages.
    Message = 2,
}

/// `coder.boundarylogproxy.codec.v1.BoundaryMessage`
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(oneof = "Content", tags = "1, 2")]
    content: Option<Content>,
}

/// What an [`Envelope`] holds.
#[derive(Clone, PartialEq, Oneof)]
enum Content {
    #[prost(message, tag = "1")]
    Logs(Report),
    #[prost(message, tag = "2")]
    Status(Status),
}

/// `coder.boundarylogproxy.codec.v1.BoundaryStatus`: what was dropped since the last one.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Status {
    /// Because the queue was full.
    #[prost(int64, tag = "1")]
    pub(super) channel_full: i64,
    /// Because a batch was.
    #[prost(int64, tag = "2")]
    pub(super) batch_full: i64,
}

/// `coder.agent.v2.ReportBoundaryLogsRequest`
#[derive(Clone, PartialEq, prost::Message)]
struct Report {
    #[prost(message, repeated, tag = "1")]
    logs: Vec<Log>,
    #[prost(string, tag = "2")]
    session_id: String,
    #[prost(string, tag = "3")]
    confined_process_name: String,
}

/// `coder.agent.v2.BoundaryLog`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Log {
    #[prost(bool, tag = "1")]
    allowed: bool,
    #[prost(message, optional, tag = "2")]
    time: Option<Time>,
    #[prost(message, optional, tag = "3")]
    http_request: Option<HttpRequest>,
    #[prost(int32, tag = "4")]
    sequence_number: i32,
}

/// `google.protobuf.Timestamp`
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// `coder.agent.v2.BoundaryLog.HttpRequest`
#[derive(Clone, PartialEq, prost::Message)]
struct HttpRequest {
    #[prost(string, tag = "1")]
    method: String,
    #[prost(string, tag = "2")]
    url: String,
    #[prost(string, tag = "3")]
    matched_rule: String,
}

impl Log {
    /// One that the fuzzers made up.
    #[cfg(fuzzing)]
    pub(super) fn made_up((method, url, rule): (String, String, String), number: i32) -> Self {
        let http_request = Some(HttpRequest { method, url, matched_rule: rule });
        Self { allowed: true, time: None, http_request, sequence_number: number }
    }

    /// A record as the agent gets it: a request, which is all that it has words for.
    pub(super) fn of(record: &Record) -> Option<Self> {
        let (method, url) = record.request()?;
        let time = record.event_time;
        Some(Self {
            allowed: record.is_allowed(),
            time: Some(Time { seconds: time.as_second(), nanos: time.subsec_nanosecond() }),
            http_request: Some(HttpRequest {
                method: method.to_owned(),
                url,
                matched_rule: record.rule().unwrap_or_default().to_owned(),
            }),
            sequence_number: record.sequence.map_or(0, |it| i32::try_from(it).unwrap_or(i32::MAX)),
        })
    }

    /// The same with less of its URL, and then of its rule, where it does not fit into a frame.
    fn shortened(&self, room: usize) -> Self {
        let mut short = self.clone();
        let Some(request) = &mut short.http_request else { return short };
        let mut over = self.encoded_len().saturating_sub(room);
        for text in [&mut request.url, &mut request.matched_rule, &mut request.method] {
            let length = text.len();
            truncate(text, length.saturating_sub(over));
            over = over.saturating_sub(length - text.len());
        }
        short
    }
}

/// Cuts text off at the character that is at or before that length.
fn truncate(text: &mut String, mut length: usize) {
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    text.truncate(length);
}

/// Who reports.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    /// The session.
    pub(super) session_id: String,
    /// The name of the command's program.
    pub(super) process: String,
}

impl Reporter {
    /// The frames that carry logs, in their order: one, or as many as it takes. The logs come back.
    pub(super) fn frames(&self, tag: Tag, logs: Vec<Log>, frames: &mut Vec<u8>) -> Vec<Log> {
        let (payload, logs) = self.payload(tag, logs);
        if let Some(payload) = payload {
            frame(tag, &payload, frames);
            return logs;
        }
        match logs.as_slice() {
            [] => {}
            [log] => {
                // What surrounds the log takes a few bytes for lengths that grow with it.
                let around =
                    self.payload(tag, Vec::new()).0.map_or(0, |payload| payload.len()) + 16;
                let short = log.shortened(MAX_PAYLOAD.saturating_sub(around));
                if let (Some(payload), _) = self.payload(tag, vec![short]) {
                    frame(tag, &payload, frames);
                }
            }
            _ => {
                let (first, second) = logs.split_at(logs.len() / 2);
                self.frames(tag, first.to_vec(), frames);
                self.frames(tag, second.to_vec(), frames);
            }
        }
        logs
    }

    /// The payload for logs, if a reader would take it; and the logs.
    fn payload(&self, tag: Tag, logs: Vec<Log>) -> (Option<Vec<u8>>, Vec<Log>) {
        let report = Report {
            logs,
            session_id: self.session_id.clone(),
            confined_process_name: self.process.clone(),
        };
        let (payload, logs) = match tag {
            Tag::Bare => (report.encode_to_vec(), report.logs),
            Tag::Message => {
                let envelope = Envelope { content: Some(Content::Logs(report)) };
                let payload = envelope.encode_to_vec();
                let logs = match envelope.content {
                    Some(Content::Logs(report)) => report.logs,
                    Some(Content::Status(_)) | None => Vec::new(),
                };
                (payload, logs)
            }
        };
        ((payload.len() <= MAX_PAYLOAD).then_some(payload), logs)
    }
}

/// The frame that tells what was dropped. The first agents have no word for it.
pub(super) fn status(tag: Tag, status: Status, frames: &mut Vec<u8>) {
    if tag == Tag::Message {
        let payload = Envelope { content: Some(Content::Status(status)) }.encode_to_vec();
        frame(tag, &payload, frames);
    }
}

/// Four bytes, the tag and the length, big-endian; then the payload.
fn frame(tag: Tag, payload: &[u8], frames: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).unwrap_or(0);
    frames.extend_from_slice(&((tag as u32) << 24 | length).to_be_bytes());
    frames.extend_from_slice(payload);
}
