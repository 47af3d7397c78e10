//! The two fields with which HTTP/1.1 opens a WebSocket and HTTP/2 does not (RFC 6455 §4, RFC 8441
//! §5).
//!
//! *Standing*: [`super::http`] opens one in HTTP/1.1 for a client that asked in HTTP/2. *Never*: looks
//! into the stream that follows.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use uuid::Uuid;

/// What the protocol is called where it is asked for.
pub(super) const WEBSOCKET: &str = "websocket";
/// What a server mixes with the key.
const SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key that nobody can have known.
pub(super) fn key() -> Option<HeaderValue> {
    HeaderValue::try_from(STANDARD.encode(Uuid::new_v4().as_bytes())).ok()
}

/// Whether an answer was made for this request's key. One that has none asked for no WebSocket.
pub(super) fn is_answer(asked: Option<&HeaderValue>, answer: &HeaderMap) -> bool {
    asked.is_none_or(|key| {
        let expected = answer_to(key.as_bytes());
        answer.get(SEC_WEBSOCKET_ACCEPT).is_some_and(|accept| accept == expected.as_str())
    })
}

/// What a server makes of a key.
pub(super) fn answer_to(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, SALT].concat()))
}

/// Takes both fields away: the other side knows neither.
pub(super) fn forget(headers: &mut HeaderMap) {
    headers.remove(SEC_WEBSOCKET_KEY);
    headers.remove(SEC_WEBSOCKET_ACCEPT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_made_for_its_key() {
        // The example of RFC 6455 §1.3.
        let sample = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let mut answer = HeaderMap::new();
        assert!(!is_answer(Some(&sample), &answer));
        answer
            .insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(is_answer(Some(&sample), &answer));
        assert!(!is_answer(key().as_ref(), &answer));
        assert!(is_answer(None, &answer));
    }
}
