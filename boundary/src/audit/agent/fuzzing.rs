//! The agent's frames as the fuzzers see them.
//!
//! *Standing*: `fuzz/` is built with `--cfg fuzzing`, and so is this. *Never*: part of a program that
//! is shipped.

use super::message::{self, Log, Logs, Reporter, Status, Tag};

/// Writes the frames for requests (method, URL, rule), numbered from 0, as they go to an agent; and
/// for the requests that were dropped before them.
pub fn frames(
    (session_id, process): (String, String),
    is_first_form: bool,
    requests: Vec<(String, String, String)>,
    dropped: (i64, i64),
) -> Vec<u8> {
    let tag = if is_first_form { Tag::Bare } else { Tag::Message };
    let logs: Logs =
        requests.into_iter().zip(0..).map(|(texts, number)| Log::made_up(texts, number)).collect();
    let mut frames = Vec::new();
    Reporter::new(&session_id, &process).frames(tag, &logs, &mut frames);
    let (channel_full, batch_full) = dropped;
    message::status(tag, Status { channel_full, batch_full }, &mut frames);
    frames
}
