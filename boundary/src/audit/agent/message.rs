//! The agent's messages, by their published field numbers, and the frames that carry them.
//!
//! *Never*: makes a frame that a reader would refuse.

use std::mem;
use std::ops::Range;
use std::sync::Arc;

use prost::{Message as _, Oneof};

use crate::audit::record::Record;
use crate::audit::wire::{Message, field_length};

/// The longest payload that a reader takes.
pub(super) const MAX_PAYLOAD: usize = 1 << 15;

/// How much more than a log and who reports a payload is at the most: kinds and lengths.
const AROUND: usize = 16;

/// How long a log is, most often.
const USUAL: usize = 160;

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

/// Requests as they stand in a report: its first field, once for each.
#[derive(Debug, Default)]
pub(super) struct Logs {
    bytes: Message,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Logs {
    /// Records as the agent gets them: requests, which are all that it has words for.
    pub(super) fn of(records: &[Arc<Record>]) -> Self {
        let (mut all, mut log, mut held) =
            (Self::default(), Message::default(), Message::default());
        // Together they are most often not longer.
        all.bytes.raw().reserve(records.len() * USUAL);
        all.ends.reserve(records.len());
        log.raw().reserve(USUAL);
        held.raw().reserve(USUAL);
        for record in records {
            log.clear();
            if write(record, &mut log, &mut held).is_some() {
                all.add(log.bytes());
            }
        }
        all
    }

    /// Adds one that is written.
    fn add(&mut self, log: &[u8]) {
        self.bytes.message(1, log);
        self.ends.push(self.bytes.bytes().len());
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of some of them.
    fn bytes(&self, some: &Range<usize>) -> &[u8] {
        let end = |number: usize| number.checked_sub(1).and_then(|last| self.ends.get(last));
        let begin = end(some.start).copied().unwrap_or(0);
        let end = end(some.end).copied().unwrap_or(begin);
        self.bytes.bytes().get(begin..end).unwrap_or_default()
    }
}

/// What the fuzzers made up, and what does not fit as it is.
impl FromIterator<Log> for Logs {
    fn from_iter<I: IntoIterator<Item = Log>>(logs: I) -> Self {
        let mut all = Self::default();
        logs.into_iter().for_each(|log| all.add(&log.encode_to_vec()));
        all
    }
}

/// Writes a record as a [`Log`], if it is a request. What a field has that is not written is nothing.
fn write(record: &Record, log: &mut Message, held: &mut Message) -> Option<()> {
    let (request, query) = record.request()?;
    if record.is_allowed() {
        log.number(1, 1);
    }
    held.clear();
    let (seconds, nanos) = (record.event_time.as_second(), record.event_time.subsec_nanosecond());
    held.signed(1, seconds);
    held.signed(2, nanos.into());
    log.message(2, held.bytes());
    held.clear();
    held.text(1, request.method());
    let mut url = 0;
    request.tell_url(query, &mut |piece| url += piece.len());
    held.head(2, url);
    request.tell_url(query, &mut |piece| held.raw().extend_from_slice(piece.as_bytes()));
    if let Some(rule) = record.rule().filter(|rule| !rule.is_empty()) {
        held.text(3, rule);
    }
    log.message(3, held.bytes());
    log.signed(4, record.sequence.map_or(0, |it| i32::try_from(it).unwrap_or(i32::MAX)).into());
    Some(())
}

/// Who reports: the last fields of a report.
#[derive(Debug)]
pub(super) struct Reporter(Vec<u8>);

impl Reporter {
    /// A session, and the name of its command's program.
    pub(super) fn new(session_id: &str, process: &str) -> Self {
        let report = Report {
            logs: Vec::new(),
            session_id: session_id.to_owned(),
            confined_process_name: process.to_owned(),
        };
        Self(report.encode_to_vec())
    }

    /// The frames that carry logs, in their order: one, or as many as it takes.
    pub(super) fn frames(&self, tag: Tag, logs: &Logs, frames: &mut Vec<u8>) {
        self.some(tag, (logs, 0..logs.len()), frames);
    }

    /// The same of some of them.
    fn some(&self, tag: Tag, (logs, some): (&Logs, Range<usize>), frames: &mut Vec<u8>) {
        let bytes = logs.bytes(&some);
        if let Some(payload) = self.payload(tag, bytes) {
            return self.one(tag, (bytes, payload), frames);
        }
        match some.len() {
            0 => {}
            1 => {
                // What surrounds the log takes a few bytes for lengths that grow with it.
                let room = MAX_PAYLOAD.saturating_sub(self.0.len() + AROUND);
                let report = Report::decode(bytes).unwrap_or_default();
                let short: Logs = report.logs.iter().map(|log| log.shortened(room)).collect();
                let bytes = short.bytes(&(0..1));
                if let Some(payload) = self.payload(tag, bytes) {
                    self.one(tag, (bytes, payload), frames);
                }
            }
            count => {
                let middle = some.start + count / 2;
                self.some(tag, (logs, some.start..middle), frames);
                self.some(tag, (logs, middle..some.end), frames);
            }
        }
    }

    /// How long the payload with these logs is, if a reader would take it.
    fn payload(&self, tag: Tag, logs: &[u8]) -> Option<usize> {
        let report = logs.len() + self.0.len();
        let payload = if tag == Tag::Bare { report } else { field_length(report) };
        Some(payload).filter(|payload| *payload <= MAX_PAYLOAD)
    }

    /// The frame with these logs.
    fn one(&self, tag: Tag, (logs, payload): (&[u8], usize), frames: &mut Vec<u8>) {
        head(tag, payload, frames);
        if tag == Tag::Message {
            let mut envelope = Message::of(mem::take(frames));
            envelope.head(1, logs.len() + self.0.len());
            *frames = envelope.into_bytes();
        }
        frames.extend_from_slice(logs);
        frames.extend_from_slice(&self.0);
    }
}

/// The frame that tells what was dropped. The first agents have no word for it.
pub(super) fn status(tag: Tag, status: Status, frames: &mut Vec<u8>) {
    if tag == Tag::Message {
        let payload = Envelope { content: Some(Content::Status(status)) }.encode_to_vec();
        head(tag, payload.len(), frames);
        frames.extend_from_slice(&payload);
    }
}

/// What a frame begins with: four bytes, the tag and the length, big-endian.
fn head(tag: Tag, length: usize, frames: &mut Vec<u8>) {
    let length = u32::try_from(length).unwrap_or(0);
    frames.extend_from_slice(&((tag as u32) << 24 | length).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(number: i32, time: Time, (method, url, rule): (&str, &str, &str)) -> Log {
        let [method, url, matched_rule] = [method, url, rule].map(str::to_owned);
        Log {
            allowed: number % 2 == 0,
            time: Some(time),
            http_request: Some(HttpRequest { method, url, matched_rule }),
            sequence_number: number,
        }
    }

    #[test]
    fn signed_numbers_and_what_is_nothing_are_as_the_library_writes_them() {
        for number in [0, 1, -1, i64::from(i32::MAX), i64::MIN, 1_700_000_000] {
            let time = Time { seconds: number, nanos: i32::try_from(number).unwrap_or(7) };
            let mut message = Message::default();
            message.signed(1, time.seconds);
            message.signed(2, time.nanos.into());
            assert_eq!(message.bytes(), time.encode_to_vec());
        }
    }

    #[test]
    fn some_logs_are_the_bytes_of_a_report_with_these() {
        let time = Time { seconds: 5, nanos: 0 };
        let one = |number| log(number, time, ("GET", "https://a.test/", "domain=a.test"));
        let logs: Vec<Log> = (0..4).map(one).collect();
        let written: Logs = logs.iter().cloned().collect();
        for (begin, end) in [(0, 4), (0, 0), (1, 3), (3, 4)] {
            let report = Report { logs: logs[begin..end].to_vec(), ..Report::default() };
            assert_eq!(written.bytes(&(begin..end)), report.encode_to_vec());
        }
    }
}
