//! The one place where a client is told no.
//!
//! *Standing*: every refusal and every upstream failure ends here, as a status, a code and a text
//! that says what to do. *Never*: lets a client guess who refused.

use bytes::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode, Version};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;

use super::body::Answer;
use super::framing::Fault;
use super::headers::wants_only_json;
use super::upstream::Failure;
use crate::rules::{Code, Denial, Intent, quoted};

/// The words by which a refusal is known, in the reference as here.
const BLOCKED: &str = "Request Blocked by Boundary";
/// The header that carries a denial's code.
const DENIED: HeaderName = HeaderName::from_static("x-boundary-denied");
/// How a policy is widened, for the shell.
const ALLOW: &str = "--allow";

/// What is not written as it is in a gRPC message: `%`, and what is not visible ASCII or a space.
const GRPC_ENCODED: AsciiSet = CONTROLS.add(b'%');
/// What gRPC calls a refusal.
const GRPC_PERMISSION_DENIED: &str = "7";
/// What gRPC calls an upstream that is not there.
const GRPC_UNAVAILABLE: &str = "14";

/// In which form a client understands a no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Plain text.
    Text,
    /// JSON.
    Json,
    /// A gRPC status.
    Grpc,
}

impl Manner {
    /// The form for whoever sent these fields.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("application/grpc")) {
            Self::Grpc
        } else if wants_only_json(headers) {
            Self::Json
        } else {
            Self::Text
        }
    }
}

/// A denial as an answer, with its number on record, by which it may be permitted after all.
pub(super) fn denied(denial: &Denial, number: u64, parts: &Parts) -> Response<Answer> {
    let code = denial.code;
    let remedy = denial.remedy();
    let (method, url) = asked(denial, parts);
    let manner = Manner::of(&parts.headers);
    let text = if manner == Manner::Grpc {
        let text = format!("{BLOCKED}: {}: {method} {url}: {}", code.as_str(), code.meaning());
        let allow = remedy.map(|rule| format!(" Permitted by {ALLOW} {}", quoted(&rule)));
        text + &allow.unwrap_or_default()
    } else if manner == Manner::Json {
        let allow = remedy.as_ref().map(|rule| format!("{ALLOW} {}", quoted(rule)));
        json!({
            "error": BLOCKED,
            "code": code.as_str(),
            "reason": code.meaning(),
            "method": method,
            "url": url,
            "allow": allow,
            "sequence": number,
        })
        .to_string()
    } else {
        let mut text = format!(
            "{BLOCKED}\n\nRequest: {method} {url}\nCode: {}\nReason: {}\n",
            code.as_str(),
            code.meaning()
        );
        if let Some(rule) = &remedy {
            let line = format!("  {ALLOW} {}\n", quoted(rule));
            text.push_str("\nTo permit it, start boundary with:\n");
            text.push_str(&line);
            text.push_str("\nWhoever started it may permit it while it runs:\n");
            let line = format!("  boundary ctl allow {number}\n");
            text.push_str(&line);
        }
        text
    };
    let mut response = match manner {
        Manner::Grpc => told_grpc(GRPC_PERMISSION_DENIED, &text),
        Manner::Text | Manner::Json => told(status_of(code, parts.version), text, manner),
    };
    response.headers_mut().insert(DENIED, HeaderValue::from_static(code.as_str()));
    response
}

/// The status of a denial. A client that took one HTTP/2 connection for two hosts is told so
/// (RFC 9110 §15.5.20): a browser then opens another.
fn status_of(code: Code, version: Version) -> StatusCode {
    if code == Code::HostMismatch && version == Version::HTTP_2 {
        return StatusCode::MISDIRECTED_REQUEST;
    }
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::FORBIDDEN)
}

/// An upstream's failure as an answer.
pub(super) fn failed(failure: &Failure, intent: &Intent, manner: Manner) -> Response<Answer> {
    let method = intent.method().map_or("", |method| method.as_str());
    let url = intent.url(true);
    let mut text = format!(
        "boundary permitted this request, but the upstream failed\n\n\
         Request: {method} {url}\nCode: {}\nReason: {failure}",
        failure.code()
    );
    let mut cause = std::error::Error::source(failure);
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    if manner == Manner::Grpc {
        return told_grpc(GRPC_UNAVAILABLE, &text.replace('\n', " "));
    }
    text.push('\n');
    if let Some(advice) = failure.advice() {
        text.push('\n');
        text.push_str(advice);
    }
    let status = StatusCode::from_u16(failure.http_status()).unwrap_or(StatusCode::BAD_GATEWAY);
    told(status, text, Manner::Text)
}

/// The answer to a request whose body is not well formed.
pub(super) fn unclear(intent: &Intent, fault: Fault) -> Response<Answer> {
    let code = fault.code();
    let text = format!("{BLOCKED}\n\nRequest: {}\nCode: {}\n", intent.url(true), code.as_str());
    let mut response = told(status(fault), text, Manner::Text);
    response.headers_mut().insert(DENIED, HeaderValue::from_static(code.as_str()));
    response
}

/// The status of a fault.
pub(super) fn status(fault: Fault) -> StatusCode {
    match fault {
        Fault::TargetTooLong => StatusCode::URI_TOO_LONG,
        Fault::TooLong | Fault::TooMany => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Fault::Late | Fault::Stalled => StatusCode::REQUEST_TIMEOUT,
        Fault::Malformed | Fault::Framing | Fault::Cut => StatusCode::BAD_REQUEST,
    }
}

/// The answer to a head that is none, as bytes: no parser saw it. The connection ends with it.
pub(super) fn fault(fault: Fault) -> Bytes {
    let (status, reason) = match fault {
        Fault::Malformed => ("400 Bad Request", "The request is not well-formed HTTP/1.1."),
        Fault::Framing => {
            ("400 Bad Request", "The length of the request's body has no one meaning.")
        }
        Fault::TooLong => {
            ("431 Request Header Fields Too Large", "The request's head is too long.")
        }
        Fault::TooMany => {
            ("431 Request Header Fields Too Large", "The request has too many header fields.")
        }
        Fault::TargetTooLong => ("414 URI Too Long", "The request's first line is too long."),
        Fault::Stalled => ("408 Request Timeout", "The request's body stood still."),
        Fault::Cut => ("400 Bad Request", "The request's head has no end."),
        Fault::Late => ("408 Request Timeout", "The request's head did not come in time."),
    };
    written(status, fault.code(), reason)
}

/// The answer to a connection for which there is no room, as bytes.
pub(super) fn crowded() -> Bytes {
    written("503 Service Unavailable", Code::OverLimit, "There is no room for another connection.")
}

/// An answer as bytes, which is the connection's last.
fn written(status: &str, code: Code, reason: &str) -> Bytes {
    let code = code.as_str();
    let text = format!("{BLOCKED}\n\nCode: {code}\nReason: {reason}\n");
    Bytes::from(format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         X-Boundary-Denied: {code}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    ))
}

/// Marks an answer as the connection's last.
pub(super) fn last(response: &mut Response<Answer>) {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// An answer in our own words.
fn told(status: StatusCode, text: String, manner: Manner) -> Response<Answer> {
    let kind = match manner {
        Manner::Json => "application/json",
        Manner::Text | Manner::Grpc => "text/plain; charset=utf-8",
    };
    let mut response = Response::new(Answer::own(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An answer to a gRPC client: nothing but a status, in the place where it looks for one.
fn told_grpc(status: &'static str, message: &str) -> Response<Answer> {
    let mut response = Response::new(Answer::own(""));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(status));
    if let Ok(message) =
        HeaderValue::try_from(utf8_percent_encode(message, &GRPC_ENCODED).to_string())
    {
        headers.insert("grpc-message", message);
    }
    response
}

/// Method and URL, canonical where there is an intent, else as they were sent: the parser let no
/// control byte into them, and a userinfo is left out.
fn asked(denial: &Denial, parts: &Parts) -> (String, String) {
    if let Some(intent) = &denial.intent {
        let method = intent.method().map_or(parts.method.as_str(), |method| method.as_str());
        return (method.to_owned(), intent.url(true));
    }
    let url = match parts.uri.authority() {
        Some(authority) => {
            let shown = authority.as_str().rsplit('@').next().unwrap_or_default();
            let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
            let scheme = parts.uri.scheme_str().map(|scheme| format!("{scheme}://"));
            format!("{}{shown}{path}", scheme.unwrap_or_default())
        }
        None => parts.uri.to_string(),
    };
    (parts.method.to_string(), url)
}
