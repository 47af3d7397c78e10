//! The pages of a window.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// The format that [`encode`] writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers one request.
pub(super) fn answer<B>(request: &Request<B>, registry: &Registry) -> Response<Full<Bytes>> {
    if !is_ours(request) {
        return told(StatusCode::MISDIRECTED_REQUEST, "text/plain", "ask for 127.0.0.1\n");
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let mut text = String::new();
            match encode(&mut text, registry) {
                Ok(()) => told(StatusCode::OK, OPEN_METRICS, text),
                Err(_) => told(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "not to be told\n"),
            }
        }
        (_, "/metrics") => {
            let mut answer = told(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            answer
        }
        _ => told(StatusCode::NOT_FOUND, "text/plain", "there is /metrics\n"),
    }
}

/// Whether the request names this machine itself. A page in a browser whose name somebody has led to
/// loopback names that.
fn is_ours<B>(request: &Request<B>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "127.0.0.1" | "localhost")
}

/// An answer.
fn told(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &str, path: &str, host: &str) -> u16 {
        let request = Request::builder().method(method).uri(path).header(HOST, host).body(());
        answer(&request.unwrap(), &Registry::default()).status().as_u16()
    }

    #[test]
    fn there_is_one_page_and_it_is_only_read() {
        assert_eq!(status("GET", "/metrics", "127.0.0.1:9464"), 200);
        assert_eq!(status("HEAD", "/metrics", "localhost:9464"), 200);
        assert_eq!(status("POST", "/metrics", "127.0.0.1:9464"), 405);
        assert_eq!(status("GET", "/", "127.0.0.1:9464"), 404);
    }

    #[test]
    fn a_name_that_was_led_here_is_not_answered() {
        assert_eq!(status("GET", "/metrics", "evil.example:9464"), 421);
        assert_eq!(status("GET", "/metrics", ""), 421);
    }
}
