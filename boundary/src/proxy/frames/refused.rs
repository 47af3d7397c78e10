//! Streams that the library refuses by itself: the service behind it never hears of them.
//!
//! *Standing*: [`super::Frames`] tells which streams were opened, and what the library says on them;
//! [`crate::proxy::http2`] tells how many requests it was given, and puts the others on record.
//! *Never*: counts a stream twice, or one whose request was given.

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{HEAD, kind};
use crate::rules::Code;

/// Bytes of an error in a frame that resets a stream.
const ERROR: usize = 4;

/// Errors that are no refusal (RFC 9113 §7), and those that say "too much".
mod error {
    pub(super) const NO_ERROR: u32 = 0;
    pub(super) const REFUSED_STREAM: u32 = 7;
    pub(super) const CANCEL: u32 = 8;
    pub(super) const ENHANCE_YOUR_CALM: u32 = 11;
}

/// What is known of the streams that a client has opened.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Refusals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The latest stream that was opened.
    highest: u32,
    /// Up to this one all were given or are on record.
    settled: u32,
    /// Streams that were opened, and neither given nor put on record.
    open: usize,
    /// What was said on streams that may be among them.
    said: Vec<(u32, Code)>,
    /// Those later than `settled` on which something was said.
    known: BTreeSet<u32>,
}

impl Refusals {
    /// The fields that open a stream are whole, or the trailers of one that is open.
    pub(super) fn opened(&self, stream: u32) {
        let mut state = self.lock();
        if stream > state.highest {
            state.highest = stream;
            state.open += 1;
        }
    }

    /// The service was given a request.
    pub(in crate::proxy) fn given(&self) {
        let mut state = self.lock();
        state.open = state.open.saturating_sub(1);
    }

    /// The first thing that is said on a stream; with a code where it refuses it, unless the request
    /// was given. What follows is part of it.
    fn said(&self, stream: u32, code: Option<Code>) {
        let mut state = self.lock();
        let may_be = stream > state.settled && stream <= state.highest;
        if may_be
            && state.known.insert(stream)
            && let Some(code) = code
        {
            state.said.push((stream, code));
        }
    }

    /// The refusals since the last time, to be put on record. It is asked when the library has
    /// nothing to do: then every request that it accepted has been given.
    pub(in crate::proxy) fn settle(&self) -> Vec<Code> {
        let mut state = self.lock();
        let mut said = std::mem::take(&mut state.said);
        said.truncate(state.open);
        state.open = state.open.saturating_sub(said.len());
        if state.open == 0 {
            state.settled = state.highest;
            state.known.clear();
        }
        said.into_iter().map(|(_, code)| code).collect()
    }

    /// How many streams were opened and never heard of again.
    pub(in crate::proxy) fn unsaid(&self) -> usize {
        std::mem::take(&mut self.lock().open)
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows both directions of a client's connection.
#[derive(Debug)]
pub(super) struct Watch {
    refusals: Arc<Refusals>,
    /// The stream whose fields are coming.
    fields: u32,
    /// What came of a frame's head that is to be written, and of the error behind it.
    head: Vec<u8>,
    /// How much of its payload is still to come.
    left: usize,
    /// How much was followed that is not written yet.
    ahead: usize,
}

impl Watch {
    /// Tells what it sees.
    pub(super) fn new(refusals: Arc<Refusals>) -> Self {
        Self { refusals, fields: 0, head: Vec::new(), left: 0, ahead: 0 }
    }

    /// Fields have begun to come.
    pub(super) fn begin(&mut self, stream: u32) {
        self.fields = stream;
    }

    /// They are whole.
    pub(super) fn end(&self) {
        self.refusals.opened(self.fields);
    }

    /// Follows what is to be written, whether or not the client takes it. What was not taken is
    /// offered again.
    pub(super) fn offered(&mut self, parts: &[IoSlice<'_>]) {
        let mut before = self.ahead;
        for part in parts {
            let fresh = part.get(before..).unwrap_or_default();
            before = before.saturating_sub(part.len());
            self.follow(fresh);
            self.ahead += fresh.len();
        }
    }

    /// So much of it was taken.
    pub(super) fn taken(&mut self, count: usize) {
        self.ahead = self.ahead.saturating_sub(count);
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        loop {
            let here = self.left.min(bytes.len());
            self.left -= here;
            bytes = bytes.get(here..).unwrap_or_default();
            let Some((byte, rest)) = bytes.split_first() else { return };
            self.head.push(*byte);
            bytes = rest;
            self.look();
        }
    }

    /// Looks at a frame's head when it is whole, with the error behind it if it has one.
    fn look(&mut self) {
        let Some((&[a, b, c, kind, flags, ref stream @ ..], rest)) =
            self.head.split_first_chunk::<HEAD>()
        else {
            return;
        };
        let is_reset = kind == kind::RST_STREAM;
        if is_reset && rest.len() < ERROR {
            return;
        }
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        let stream = u32::from_be_bytes(*stream);
        self.left = length.saturating_sub(rest.len());
        match (kind, rest.first_chunk::<ERROR>()) {
            (_, Some(error)) => self.refusals.said(stream, refused(u32::from_be_bytes(*error))),
            // The only answer that the library gives is to a head that is too large.
            (kind::HEADERS, None) => {
                let is_all = flags & kind::END_STREAM != 0;
                self.refusals.said(stream, is_all.then_some(Code::OverLimit));
            }
            _ => {}
        }
        self.head.clear();
    }
}

/// What a stream is refused for, by the error that it is reset with.
fn refused(error: u32) -> Option<Code> {
    match error {
        error::NO_ERROR | error::CANCEL => None,
        error::REFUSED_STREAM | error::ENHANCE_YOUR_CALM => Some(Code::OverLimit),
        _ => Some(Code::BadRequest),
    }
}
