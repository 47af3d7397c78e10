//! The pages of a window.

use std::fs;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::time::{Duration, sleep};

use super::profile;
use crate::sys::sampler::Sampler;

/// A few words.
const PLAIN: &str = "text/plain";

/// What only a program reads.
const OCTETS: &str = "application/octet-stream";

/// The format that [`encode`] writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The longest time that a profile is made over, and the usual one.
pub(super) const LONGEST: Duration = Duration::from_mins(5);
const USUAL: Duration = Duration::from_secs(30);

/// Where a profile is asked for, as `go tool pprof` does.
const PROFILE: &str = "/debug/pprof/profile";

/// Answers a request at the window of the metrics.
pub(super) fn metrics<B>(request: &Request<B>, registry: &Registry) -> Response<Full<Bytes>> {
    if let Some(refused) = refused(request, "/metrics") {
        return refused;
    }
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => told(StatusCode::OK, OPEN_METRICS, text),
        Err(_) => told(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "not to be told\n"),
    }
}

/// Answers a request at the window of the profiles: makes one for as long as it says.
pub(super) async fn profile<B>(request: Request<B>) -> Response<Full<Bytes>> {
    if let Some(refused) = refused(&request, PROFILE) {
        return refused;
    }
    let query = request.uri().query().unwrap_or_default();
    let Some(long) = seconds(query) else {
        return told(StatusCode::BAD_REQUEST, PLAIN, "seconds is a number from 1 to 300\n");
    };
    if request.method() == Method::HEAD {
        return told(StatusCode::OK, OCTETS, "");
    }
    match Sampler::start(profile::EVERY) {
        Ok(Some(sampler)) => {
            sleep(long).await;
            let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
            told(StatusCode::OK, OCTETS, profile::written(&sampler.finish(), long, &maps))
        }
        Ok(None) => told(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "one is being made\n"),
        Err(_) => told(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "not to be had\n"),
    }
}

/// For how long a query wants a profile.
fn seconds(query: &str) -> Option<Duration> {
    let named = query.split('&').find_map(|pair| pair.strip_prefix("seconds="));
    let long = named.map_or(Some(USUAL), |text| text.parse().ok().map(Duration::from_secs));
    long.filter(|long| !long.is_zero() && *long <= LONGEST)
}

/// What a request is answered that does not read the one page there is.
fn refused<B>(request: &Request<B>, page: &'static str) -> Option<Response<Full<Bytes>>> {
    if !is_ours(request) {
        return Some(told(StatusCode::MISDIRECTED_REQUEST, PLAIN, "ask for 127.0.0.1\n"));
    }
    if request.uri().path() != page {
        return Some(told(StatusCode::NOT_FOUND, PLAIN, format!("there is {page}\n")));
    }
    if [Method::GET, Method::HEAD].contains(request.method()) {
        return None;
    }
    let mut answer = told(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    Some(answer)
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
        metrics(&request.unwrap(), &Registry::default()).status().as_u16()
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

    #[test]
    fn a_profile_takes_as_long_as_is_said_within_bounds() {
        let secs = |query| seconds(query).map(|long| long.as_secs());
        assert_eq!((secs(""), secs("debug=0&seconds=2")), (Some(30), Some(2)));
        assert_eq!((secs("seconds=300"), secs("seconds=301")), (Some(300), None));
        assert_eq!((secs("seconds=0"), secs("seconds=-1"), secs("seconds=x")), (None, None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_else_is_told_where_this_process_is() {
        let status = async |method: &str, path: &str, host: &str| {
            let request = Request::builder().method(method).uri(path).header(HOST, host).body(());
            profile(request.unwrap()).await.status().as_u16()
        };
        assert_eq!(status("GET", PROFILE, "evil.example:6060").await, 421);
        assert_eq!(status("POST", PROFILE, "127.0.0.1:6060").await, 405);
        assert_eq!(status("GET", "/debug/pprof/cmdline", "127.0.0.1:6060").await, 404);
        assert_eq!(status("GET", "/debug/pprof/profile?seconds=x", "127.0.0.1:6060").await, 400);
        assert_eq!(status("HEAD", PROFILE, "127.0.0.1:6060").await, 200);
    }
}
