//! Which header fields go on: end to end yes, hop by hop no (RFC 9110 §7.6.1).
//!
//! *Standing*: [`super::http`] passes every request and every answer through here. Order and case
//! of what stays are kept, so a map is made anew: removing from one would reorder it. *Never*: adds
//! a field that names boundary.

use hyper::ext::Protocol;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, Entry, HOST, HeaderMap, HeaderName, HeaderValue,
    SEC_WEBSOCKET_KEY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, Uri, Version};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::peek::is_token;
use super::websocket;
use crate::rules::Intent;

/// The key of a WebSocket, which HTTP/2 leaves out: the same request may be said in HTTP/1.1 afterwards.
#[derive(Debug, Clone)]
struct Key(HeaderValue);

/// What is said of trailers.
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Puts a request into HTTP/1.1: the Intent's method, target and host, and the fields that go
/// further than one hop.
pub(super) fn say_http1(
    parts: &mut Parts,
    intent: &Intent,
    switch: Option<&HeaderValue>,
    has_body: bool,
) -> Option<()> {
    let headers = std::mem::take(&mut parts.headers);
    let takes_trailers = takes_trailers(&headers);
    let mut onward = HeaderMap::with_capacity(headers.len() + 1);
    // In HTTP/1.1 it comes first (RFC 9110 §7.2), unless the client had it elsewhere.
    let host = HeaderValue::try_from(intent.authority()).ok()?;
    if !headers.contains_key(HOST) {
        onward.insert(HOST, host.clone());
    }
    onward = end_to_end(headers, onward, |name| *name == TRANSFER_ENCODING);
    onward.insert(HOST, host);
    if parts.version == Version::HTTP_2 {
        join_cookies(&mut onward);
    }
    if let Some(Key(key)) = parts.extensions.remove() {
        onward.insert(SEC_WEBSOCKET_KEY, key);
    }
    let mut options = Vec::new();
    if let Some(protocol) = switch {
        onward.insert(UPGRADE, protocol.clone());
        options.push("Upgrade");
    }
    // We pass trailers on, so the origin may know that somebody takes them.
    if takes_trailers {
        onward.insert(TE, TRAILERS);
        options.push("TE");
    }
    if let Some(options) = connection(&options) {
        onward.insert(CONNECTION, options);
    }
    if has_body && switch.is_none() {
        say_length(&mut onward);
    }
    parts.method = method(intent)?;
    parts.uri = sayable(intent.path_and_query()?)?;
    parts.version = Version::HTTP_11;
    parts.headers = onward;
    Some(())
}

/// Says how a body ends of which no length is said, as one need not be in HTTP/2. The client's library would
/// take a GET or HEAD for one without a body.
fn say_length(headers: &mut HeaderMap) {
    if !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Puts a request into HTTP/2: the same, but the host has a place of its own, and so has the
/// protocol to switch to (RFC 8441).
pub(super) fn say_http2(
    parts: &mut Parts,
    intent: &Intent,
    switch: Option<&HeaderValue>,
) -> Option<()> {
    let headers = std::mem::take(&mut parts.headers);
    let takes_trailers = takes_trailers(&headers);
    let room = HeaderMap::with_capacity(headers.len());
    let mut onward = end_to_end(headers, room, |_| false);
    onward.remove(HOST);
    if takes_trailers {
        onward.insert(TE, TRAILERS);
    }
    parts.method = match switch {
        Some(protocol) => {
            if let Some(key) = onward.get(SEC_WEBSOCKET_KEY).cloned() {
                parts.extensions.insert(Key(key));
            }
            websocket::forget(&mut onward);
            parts.extensions.insert(Protocol::from(protocol.to_str().ok()?));
            Method::CONNECT
        }
        None => method(intent)?,
    };
    let target = sayable(intent.path_and_query()?)?.into_parts().path_and_query?;
    let uri = Uri::builder().scheme(intent.scheme().as_str()).authority(intent.authority());
    parts.uri = uri.path_and_query(target).build().ok()?;
    parts.version = Version::HTTP_2;
    parts.headers = onward;
    Some(())
}

/// What of a query the library for upstreams does not know, though the short way sends it as it is.
const UNSAYABLE: AsciiSet = CONTROLS.add(b'"').add(b'<').add(b'>');

/// A target, or a URL, as the library for upstreams takes it: what it does not know is encoded, as most
/// clients do themselves.
pub(super) fn sayable(target: String) -> Option<Uri> {
    let is_sayable = !target.contains(['"', '<', '>']);
    let encoded = |target: &str| utf8_percent_encode(target, &UNSAYABLE).to_string();
    Uri::try_from(if is_sayable { target } else { encoded(&target) }).ok()
}

/// The method as it is sent.
fn method(intent: &Intent) -> Option<Method> {
    Method::from_bytes(intent.method()?.as_str().as_bytes()).ok()
}

/// Whether somebody behind us takes trailers.
fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(TE).iter().any(|te| tokens(te).any(|token| token == "trailers"))
}

/// HTTP/2 may cut the cookies into pieces; whoever does not speak it wants them whole (RFC 9113
/// §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let Entry::Occupied(mut cookies) = headers.entry(COOKIE) else { return };
    if cookies.iter().nth(1).is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = cookies.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        cookies.insert(whole);
    }
}

/// The fields of an answer as they go to the client.
pub(super) fn response(headers: HeaderMap, switched_to: Option<&HeaderValue>) -> HeaderMap {
    // With chunks a length is void (RFC 9112 §6.3), and ours would be written beside our own.
    let length_is_void = headers.contains_key(TRANSFER_ENCODING);
    let room = HeaderMap::with_capacity(headers.len());
    let mut onward = end_to_end(headers, room, |_| false);
    if length_is_void && let Entry::Occupied(length) = onward.entry(CONTENT_LENGTH) {
        length.remove();
    }
    if let Some(protocol) = switched_to {
        onward.insert(UPGRADE, protocol.clone());
        onward.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    onward
}

/// What a request asks to switch to, if it may. A switch to another HTTP, or to TLS in which one
/// could hide, would carry requests that nobody judges: such a wish is not passed on, and the
/// request is answered as if it had none (RFC 9110 §7.8 lets a server ignore it).
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers
        .get_all(CONNECTION)
        .iter()
        .any(|value| tokens(value).any(|token| token == "upgrade"));
    let mut wishes = headers.get_all(UPGRADE).iter();
    let (Some(wish), None) = (wishes.next(), wishes.next()) else { return None };
    let named = tokens(wish).next().is_some();
    (asked && named && tokens(wish).all(|token| is_opaque(&token))).then(|| wish.clone())
}

/// The same wish as an HTTP/2 client says it, with an extended CONNECT.
pub(super) fn protocol(wish: &Protocol) -> Option<HeaderValue> {
    let token = wish.as_str().to_ascii_lowercase();
    let is_one = !token.is_empty() && token.bytes().all(|byte| is_token(byte) || byte == b'/');
    HeaderValue::try_from(wish.as_str()).ok().filter(|_| is_one && is_opaque(&token))
}

/// Whether a protocol carries no HTTP that somebody would have to judge.
fn is_opaque(token: &str) -> bool {
    let protocol = token.split('/').next().unwrap_or_default();
    !["h2", "http", "spdy", "tls"].iter().any(|http| protocol.starts_with(http))
}

/// Whether an upstream switched to what was asked for.
pub(super) fn is_switch_to<B>(response: &Response<B>, asked: &HeaderValue) -> bool {
    response.headers().get(UPGRADE).is_some_and(|to| {
        tokens(to).next().is_some() && tokens(to).all(|to| tokens(asked).any(|one| one == to))
    })
}

/// Whether a client takes JSON and nothing that a plain text is.
pub(super) fn wants_only_json(accept: &HeaderMap) -> bool {
    let mut json = false;
    for value in accept.get_all(hyper::header::ACCEPT) {
        for token in tokens(value) {
            let kind = token.split(';').next().unwrap_or_default().trim_end();
            match kind {
                "text/plain" | "text/*" | "*/*" => return false,
                "application/json" | "application/*" => json = true,
                other => json |= other.ends_with("+json"),
            }
        }
    }
    json
}

/// The fields that are not for the next hop alone.
fn end_to_end(
    headers: HeaderMap,
    mut onward: HeaderMap,
    stays: impl Fn(&HeaderName) -> bool,
) -> HeaderMap {
    let listed: Vec<String> = headers.get_all(CONNECTION).iter().flat_map(tokens).collect();
    let mut current = None;
    for (name, value) in headers {
        // A repeated field comes without its name.
        if let Some(name) = name {
            let is_listed = listed.iter().any(|token| token == name.as_str());
            let goes = stays(&name) || !(is_hop_by_hop(&name) || is_listed && !is_needed(&name));
            current = Some((name, goes));
        }
        if let Some((name, true)) = &current {
            onward.append(name.clone(), value);
        }
    }
    onward
}

/// Fields between two neighbours. `HTTP2-Settings` belongs to a switch that we do not make.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | TE | TRANSFER_ENCODING | UPGRADE)
        || matches!(name.as_str(), "keep-alive" | "http2-settings")
        || name.as_str().starts_with("proxy-")
}

/// Fields that a `Connection` field cannot take away, since the message's meaning hangs on them.
fn is_needed(name: &HeaderName) -> bool {
    matches!(*name, HOST | CONTENT_LENGTH | TRAILER)
}

/// The members of a comma list, in lower case.
fn tokens(value: &HeaderValue) -> impl Iterator<Item = String> {
    let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let members: Vec<String> = text
        .split(',')
        .map(|token| token.trim().to_owned())
        .filter(|token| !token.is_empty())
        .collect();
    members.into_iter()
}

/// A `Connection` field.
fn connection(options: &[&str]) -> Option<HeaderValue> {
    let joined = options.join(", ");
    HeaderValue::from_str(&joined).ok().filter(|_| !options.is_empty())
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;
    use crate::rules::{Host, Scheme};

    #[test]
    fn what_was_said_in_http2_can_be_said_in_http1_with_its_key() {
        let host = Host::parse("a.test").unwrap();
        let intent = Intent::http(Scheme::Https, "GET", host, 443, "/chat").unwrap();
        let protocol = HeaderValue::from_static(websocket::WEBSOCKET);
        let request = Request::builder().header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        say_http2(&mut parts, &intent, Some(&protocol)).unwrap();
        assert!(!parts.headers.contains_key(SEC_WEBSOCKET_KEY));
        say_http1(&mut parts, &intent, Some(&protocol), false).unwrap();
        assert_eq!(parts.headers[SEC_WEBSOCKET_KEY], "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(parts.headers[UPGRADE], websocket::WEBSOCKET);
    }
}
