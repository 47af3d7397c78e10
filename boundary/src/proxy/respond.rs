//! The one place where a client is told no.
//!
//! *Standing*: every refusal and every upstream failure ends here, as a status, a code and a text
//! that says what to do. *Never*: lets a client guess who refused.

use bytes::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::json;

use super::body::Answer;
use super::framing::Fault;
use super::headers::wants_only_json;
use super::upstream::Failure;
use crate::rules::{Code, Denial, Intent};

/// The words by which a refusal is known, in the reference as here.
const BLOCKED: &str = "Request Blocked by Boundary";
/// The header that carries a denial's code.
const DENIED: HeaderName = HeaderName::from_static("x-boundary-denied");
/// How a policy is widened, for the shell.
const ALLOW: &str = "--allow";

/// A denial as an answer.
pub(super) fn denied(denial: &Denial, parts: &Parts) -> Response<Answer> {
    let code = denial.code;
    let remedy = denial.remedy();
    let (method, url) = asked(denial, parts);
    let status = StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::FORBIDDEN);
    let text = if wants_only_json(&parts.headers) {
        let allow = remedy.as_ref().map(|rule| format!("{ALLOW} {}", quoted(rule)));
        json!({
            "error": BLOCKED,
            "code": code.as_str(),
            "reason": code.meaning(),
            "method": method,
            "url": url,
            "allow": allow,
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
        }
        text
    };
    let mut response = told(status, text, wants_only_json(&parts.headers));
    response.headers_mut().insert(DENIED, HeaderValue::from_static(code.as_str()));
    response
}

/// An upstream's failure as an answer.
pub(super) fn failed(failure: &Failure, intent: &Intent) -> Response<Answer> {
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
    text.push('\n');
    if let Some(advice) = failure.advice() {
        text.push('\n');
        text.push_str(advice);
    }
    let status = StatusCode::from_u16(failure.http_status()).unwrap_or(StatusCode::BAD_GATEWAY);
    told(status, text, false)
}

/// The answer to a request whose body is not well formed.
pub(super) fn unclear(intent: &Intent) -> Response<Answer> {
    let code = Code::BadRequest;
    let text = format!("{BLOCKED}\n\nRequest: {}\nCode: {}\n", intent.url(true), code.as_str());
    let mut response = told(StatusCode::BAD_REQUEST, text, false);
    response.headers_mut().insert(DENIED, HeaderValue::from_static(code.as_str()));
    last(&mut response);
    response
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
        Fault::Cut => ("400 Bad Request", "The request's head has no end."),
        Fault::Late => ("408 Request Timeout", "The request's head did not come in time."),
    };
    written(status, fault.code(), reason)
}

/// The answer to a connection for which there is no room, as bytes.
pub(super) fn crowded() -> Bytes {
    written("503 Service Unavailable", Code::OverLimit, "There are too many connections.")
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
fn told(status: StatusCode, text: String, is_json: bool) -> Response<Answer> {
    let kind = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
    let mut response = Response::new(Answer::own(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
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

/// A rule as one word of a shell, in which nothing is expanded.
fn quoted(rule: &str) -> String {
    format!("'{}'", rule.replace('\'', r"'\''"))
}
