//! The session's id and the request's number, for a gateway that keeps a record of its own.
//!
//! *Never*: puts them into a request that no target asks for.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The session's id.
const SESSION: HeaderName = HeaderName::from_static("x-coder-agent-firewall-session-id");

/// The number of the request's record.
const NUMBER: HeaderName = HeaderName::from_static("x-coder-agent-firewall-sequence-number");

/// What ties a request to its record.
#[derive(Debug, Clone)]
pub(super) struct Correlation {
    /// The session.
    pub(super) session: Uuid,
    /// The number of its record.
    pub(super) number: u64,
}

impl Correlation {
    /// Puts it in, in place of what the client may have said.
    pub(super) fn put(&self, headers: &mut HeaderMap) -> Option<()> {
        headers.insert(SESSION, HeaderValue::try_from(self.session.to_string()).ok()?);
        headers.insert(NUMBER, HeaderValue::from(self.number));
        Some(())
    }
}
