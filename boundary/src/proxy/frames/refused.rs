//! What the library says: the streams that it refuses by itself, of which the service behind it never
//! hears, and how many frames carry something.
//!
//! *Standing*: [`super::Frames`] tells which streams were opened, and what the library writes;
//! [`crate::proxy::http2`] tells how many requests it was given, and puts the others on record.
//! *Never*: counts a stream twice, or one whose request was given.

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{HEAD, PREFACE, kind};
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

/// Follows what the library writes, and of a client which streams it opens.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Who hears of a client's streams.
    refusals: Option<Arc<Refusals>>,
    /// The stream whose fields are coming.
    fields: u32,
    /// What came of a frame's head that is to be written, and of the error behind it.
    head: Vec<u8>,
    /// How much of its payload is still to come.
    left: usize,
    /// How much was followed that is not written yet.
    ahead: usize,
    /// How many frames carried something.
    carried: usize,
}

impl Watch {
    /// Of a client: tells which streams are refused.
    pub(super) fn client(refusals: Arc<Refusals>) -> Self {
        Self { refusals: Some(refusals), ..Self::default() }
    }

    /// Of an upstream, to which a preface is written before the first frame.
    pub(super) fn upstream() -> Self {
        Self { left: PREFACE, ..Self::default() }
    }

    /// Whether it is a client's.
    pub(super) fn is_client(&self) -> bool {
        self.refusals.is_some()
    }

    /// How many frames carried something since the last time.
    pub(super) fn carried(&mut self) -> usize {
        std::mem::take(&mut self.carried)
    }

    /// Fields have begun to come.
    pub(super) fn begin(&mut self, stream: u32) {
        self.fields = stream;
    }

    /// They are whole.
    pub(super) fn end(&self) {
        if let Some(refusals) = &self.refusals {
            refusals.opened(self.fields);
        }
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
            if bytes.is_empty() {
                return;
            }
            // Of a reset, the error too.
            let wanted = if self.head.len() < HEAD { HEAD } else { HEAD + ERROR };
            let here = wanted.saturating_sub(self.head.len()).min(bytes.len());
            let (head, rest) = bytes.split_at(here);
            self.head.extend_from_slice(head);
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
        self.carried += usize::from(carries(kind, flags, length));
        let error = rest.first_chunk::<ERROR>().map(|error| u32::from_be_bytes(*error));
        self.head.clear();
        let Some(refusals) = &self.refusals else { return };
        match (kind, error) {
            (_, Some(error)) => refusals.said(stream, refused(error)),
            // The only answer that the library gives is to a head that is too large.
            (kind::HEADERS, None) => {
                let is_all = flags & kind::END_STREAM != 0;
                refusals.said(stream, is_all.then_some(Code::OverLimit));
            }
            _ => {}
        }
    }
}

/// Whether a frame carries a request, an answer, or a part of one, and be it a byte. Whether padding is all of
/// it, its head does not say.
pub(super) const fn carries(kind: u8, flags: u8, length: usize) -> bool {
    match kind {
        kind::HEADERS => true,
        kind::DATA => length > 0 && flags & kind::PADDED == 0,
        _ => false,
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
