//! HTTP/2 on both sides, and between the versions.

mod refused;
mod silent;
mod streams;
mod translation;
mod uploads;

use std::convert::Infallible;
use std::pin::pin;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::super::Stream;
use super::tls::{Secure, greeted_with, vouched};
use super::*;

type Content = BoxBody<Bytes, Infallible>;

/// Some bytes, or none.
fn content(text: impl Into<Bytes>) -> Content {
    let text = text.into();
    if text.is_empty() { Empty::new().boxed() } else { Full::new(text).boxed() }
}

/// A client that speaks HTTP/2.
#[derive(Clone)]
struct Many {
    sender: SendRequest<Content>,
    /// Where its requests go: `https://localhost:PORT`.
    base: String,
}

/// What came back.
#[derive(Debug)]
struct Heard2 {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    trailers: HeaderMap,
}

impl Heard2 {
    async fn read(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        let all = soon(body.collect()).await.unwrap();
        let trailers = all.trailers().cloned().unwrap_or_default();
        let status = parts.status.as_u16();
        Self { status, headers: parts.headers, body: all.to_bytes(), trailers }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Many {
    async fn on(stream: impl Stream, base: String) -> Self {
        let (sender, connection) =
            Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(async { drop(connection.await) });
        Self { sender, base }
    }

    /// TLS to `localhost`, as whom the stage's proxy answers.
    async fn secured(stage: &Stage, port: u16) -> Self {
        let stream = stage.connect().await.0;
        let client = greeted_with(stage, stream, "localhost", true, b"h2").await.unwrap();
        assert_eq!(client.0.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::on(client.0, format!("https://localhost:{port}")).await
    }

    /// Without TLS, by prior knowledge.
    async fn plain(stage: &Stage, authority: &str) -> Self {
        Self::on(stage.connect().await.0, format!("http://{authority}")).await
    }

    fn get(&self, path: &str) -> Request<Content> {
        Request::get(format!("{}{path}", self.base)).body(content("")).unwrap()
    }

    async fn send(&self, request: Request<Content>) -> hyper::Result<Response<Incoming>> {
        soon(self.sender.clone().send_request(request)).await
    }

    async fn ask(&self, request: Request<Content>) -> Heard2 {
        Heard2::read(self.send(request).await.unwrap()).await
    }
}

/// What an origin of HTTP/2 was asked: version, method, URI, fields.
type Asked = Arc<Mutex<Vec<(Version, String, HeaderMap)>>>;

/// An origin behind TLS that speaks HTTP/2, and nothing else unless it is told.
struct Origin2 {
    secure: Secure,
    asked: Asked,
    connections: Arc<Mutex<usize>>,
    leave: Arc<Leave>,
}

/// Tells an origin to end its connections.
#[derive(Default)]
struct Leave {
    /// With a word: what is asked is answered, and nothing more is taken.
    politely: Notify,
    /// Without one.
    rudely: Notify,
}

impl Origin2 {
    async fn new<F, A>(protocols: &[&str], answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<Content>> + Send + 'static,
    {
        let (asked, connections) = (Asked::default(), Arc::new(Mutex::new(0)));
        let (log, count) = (Arc::clone(&asked), Arc::clone(&connections));
        let leave = Arc::<Leave>::default();
        let leaving = Arc::clone(&leave);
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let (mut config, root) = vouched("localhost");
        config.alpn_protocols = protocols;
        let config = Arc::new(config);
        let acceptor = TlsAcceptor::from(Arc::clone(&config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let secure = Secure::at(listener.local_addr().unwrap(), config, &root);
        let greeted = move |stream| {
            *count.lock().unwrap() += 1;
            let leaving = Arc::clone(&leaving);
            drop(tokio::spawn(serve(stream, answer.clone(), Arc::clone(&log), leaving)));
        };
        tokio::spawn(greet_all(listener, acceptor, greeted));
        Self { secure, asked, connections, leave }
    }

    /// An origin that says yes.
    async fn fine() -> Self {
        Self::new(&["h2", "http/1.1"], fine).await
    }

    fn port(&self) -> u16 {
        self.secure.port()
    }

    fn stage(&self, rules: &[String]) -> Stage {
        self.secure.stage(Setting::to_name("localhost", self.port(), rules))
    }

    fn rule(&self, rest: &str) -> Vec<String> {
        vec![format!("host=localhost port={} {rest}", self.port())]
    }

    fn asked(&self) -> Vec<(Version, String, HeaderMap)> {
        self.asked.lock().unwrap().clone()
    }

    fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

/// An origin behind TLS that speaks HTTP/1.1 from a script, and what it was sent.
struct Origin1 {
    secure: Secure,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Origin1 {
    async fn new(script: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let (config, root) = vouched("localhost");
        let config = Arc::new(config);
        let acceptor = TlsAcceptor::from(Arc::clone(&config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let secure = Secure::at(listener.local_addr().unwrap(), config, &root);
        let (requests, script) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(script));
        let log = Arc::clone(&requests);
        let greeted = move |stream| {
            drop(tokio::spawn(attend(stream, Arc::clone(&log), Arc::clone(&script))));
        };
        tokio::spawn(greet_all(listener, acceptor, greeted));
        Self { secure, requests }
    }

    fn stage(&self) -> Stage {
        let port = self.secure.port();
        let rules = [format!("host=localhost port={port}")];
        self.secure.stage(Setting::to_name("localhost", port, &rules))
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Hands on whatever finishes the handshake.
async fn greet_all(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    attend: impl Fn(tokio_rustls::server::TlsStream<TcpStream>),
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(stream) = acceptor.accept(stream).await {
            attend(stream);
        }
    }
}

/// Says yes.
async fn fine(_: Request<Incoming>) -> Response<Content> {
    Response::new(content("ok"))
}

/// Serves a stream in HTTP/2.
async fn serve<S, F, A>(stream: S, answer: F, log: Asked, leave: Arc<Leave>)
where
    S: Stream,
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Content>> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let what = format!("{} {}", request.method(), request.uri());
        log.lock().unwrap().push((request.version(), what, request.headers().clone()));
        let answer = answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.enable_connect_protocol();
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ended = connection.as_mut() => {}
        () = leave.rudely.notified() => {}
        () = leave.politely.notified() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

#[tokio::test]
async fn every_stream_is_judged_by_itself_and_a_refusal_ends_nothing_else() {
    let secure = Secure::new("localhost").await;
    let port = secure.port();
    let rules = [format!("host=localhost port={port} path=/yes")];
    let stage = secure.stage(Setting::to_name("localhost", port, &rules));
    let client = Many::secured(&stage, port).await;
    let [first, second, third] = ["/yes", "/no", "/yes"].map(|path| client.ask(client.get(path)));
    let (first, second, third) = tokio::join!(first, second, third);
    assert_eq!((first.status, first.text()), (200, "ok"));
    assert_eq!(second.field("x-boundary-denied"), Some("no_rule"));
    assert_eq!(second.status, 403);
    assert!(second.text().contains("Request Blocked by Boundary"), "{}", second.text());
    assert_eq!(third.status, 200);
    assert_eq!(client.ask(client.get("/yes")).await.status, 200);
    assert_eq!(secure.requests().len(), 3);
    let mut decisions = stage.decisions().await;
    decisions.sort();
    let url = format!("https://localhost:{port}");
    let yes = format!("allow - {url}/yes");
    assert_eq!(decisions, [yes.clone(), yes.clone(), yes, format!("deny no_rule {url}/no")]);
}

#[tokio::test]
async fn a_burst_of_streams_shares_one_upstream_connection() {
    let origin = Origin2::fine().await;
    let stage = origin.stage(&origin.rule(""));
    let client = Many::secured(&stage, origin.port()).await;
    let mut asking = JoinSet::new();
    for number in 0..50 {
        let client = client.clone();
        asking.spawn(async move { client.ask(client.get(&format!("/{number}"))).await.status });
    }
    assert_eq!(soon(asking.join_all()).await, [200; 50]);
    assert_eq!(origin.connections(), 1);
    let asked = origin.asked();
    assert!(asked.iter().all(|(version, ..)| *version == Version::HTTP_2));
    // Another client of the same session shares it too.
    let other = Many::secured(&stage, origin.port()).await;
    assert_eq!(other.ask(other.get("/other")).await.status, 200);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn what_names_the_host_must_agree_on_every_stream() {
    let origin = Origin2::fine().await;
    let port = origin.port();
    let rules = [origin.rule(""), vec![format!("domain=evil.example")]].concat();
    let stage = origin.stage(&rules);
    let client = Many::secured(&stage, port).await;
    let rows = [
        (format!("https://localhost:{port}/"), None, 200, ""),
        (format!("https://localhost:{port}/"), Some(format!("localhost:{port}")), 200, ""),
        (format!("https://LocalHost.:{port}/"), None, 200, ""),
        (format!("https://evil.example:{port}/"), None, 421, "host_mismatch"),
        ("https://evil.example/".into(), None, 421, "host_mismatch"),
        (format!("https://localhost:{port}/"), Some("evil.example".into()), 421, "host_mismatch"),
        ("https://localhost/".into(), None, 421, "host_mismatch"),
        (format!("http://localhost:{port}/"), None, 400, "bad_request"),
        (format!("https://user@localhost:{port}/"), None, 400, "bad_host"),
    ];
    for (uri, host, status, code) in rows {
        let mut request = Request::get(&uri).body(content("")).unwrap();
        if let Some(host) = &host {
            request.headers_mut().insert("host", host.parse().unwrap());
        }
        let got = client.ask(request).await;
        let seen = (got.status, got.field("x-boundary-denied").unwrap_or_default());
        assert_eq!(seen, (status, code), "{uri} {host:?}: {}", got.text());
    }
    assert_eq!(origin.asked().len(), 3);
    assert!(
        origin.asked().iter().all(|(_, what, _)| what == &format!("GET https://localhost:{port}/"))
    );
}

/// The status of one request, in a tunnel where the stage wants one.
async fn verdict(stage: &Stage, port: u16, version: &str, request: (&str, &str)) -> u16 {
    let (method, path) = request;
    let mut client = stage.connect().await;
    if stage.is_explicit {
        assert_eq!(client.open(&format!("localhost:{port}")).await, 200);
    }
    let inside = greeted_with(stage, client.0, "localhost", true, version.as_bytes()).await;
    let mut inside = inside.unwrap();
    if version == "h2" {
        let client = Many::on(inside.0, format!("https://localhost:{port}")).await;
        let mut request = client.get(path);
        *request.method_mut() = method.parse().unwrap();
        return client.ask(request).await.status;
    }
    let fields = format!("Host: localhost:{port}\r\nContent-Length: 0");
    inside.ask(format!("{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n")).await.status
}

#[tokio::test]
async fn both_versions_get_the_same_verdict_at_every_door() {
    let rows = [
        ("GET", "/yes", 200),
        ("GET", "/no", 403),
        ("POST", "/yes", 403),
        ("GET", "/yes/../no", 403),
        ("GET", "/no/%2e%2e/yes", 200),
        ("GET", "/yes%252fno", 400),
        ("HEAD", "/yes", 403),
        ("get", "/yes", 200),
    ];
    let secure = Secure::new("localhost").await;
    let port = secure.port();
    let rules = [format!("method=GET host=localhost port={port} path=/yes")];
    let redirect = secure.stage(Setting::to_name("localhost", port, &rules));
    let explicit = secure.stage(Setting::explicit(&rules));
    for (method, path, status) in rows {
        let seen = [
            verdict(&redirect, port, "http/1.1", (method, path)).await,
            verdict(&redirect, port, "h2", (method, path)).await,
            verdict(&explicit, port, "http/1.1", (method, path)).await,
            verdict(&explicit, port, "h2", (method, path)).await,
        ];
        assert_eq!(seen, [status; 4], "{method} {path}");
    }
}

#[tokio::test]
async fn http2_by_prior_knowledge_is_judged_alike() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, fine, Arc::clone(&log), Arc::default()));
        }
    });
    let rules = [format!("host=127.0.0.1 port={} path=/yes", address.port())];
    let stages = [Stage::redirected(address, &rules), Setting::explicit(&rules).start()];
    for stage in stages {
        let client = Many::plain(&stage, &address.to_string()).await;
        assert_eq!(client.ask(client.get("/yes")).await.text(), "ok");
        assert_eq!(client.ask(client.get("/no")).await.status, 403);
        let elsewhere = Request::get("http://127.0.0.2/yes").body(content("")).unwrap();
        assert!([403, 421].contains(&client.ask(elsewhere).await.status));
        assert_eq!(client.ask(client.get("/yes")).await.status, 200);
    }
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|(version, ..)| *version == Version::HTTP_2));
}

#[tokio::test]
async fn a_shared_connection_that_ends_is_replaced_unseen() {
    let origin = Origin2::fine().await;
    let stage = origin.stage(&origin.rule(""));
    let client = Many::secured(&stage, origin.port()).await;
    assert_eq!(client.ask(client.get("/1")).await.status, 200);
    origin.leave.politely.notify_waiters();
    assert_eq!(client.ask(client.get("/2")).await.status, 200);
    // Whether the second went by the first connection or not: it is the last that lives now.
    assert_eq!(client.ask(client.get("/3")).await.status, 200);
    origin.leave.rudely.notify_waiters();
    assert_eq!(client.ask(client.get("/4")).await.status, 200);
    assert!(origin.connections() >= 2);
    let asked: Vec<_> = origin.asked().into_iter().map(|(_, what, _)| what).collect();
    assert_eq!(asked.iter().filter(|what| what.ends_with("/2")).count(), 1, "{asked:?}");
}

#[tokio::test]
async fn a_connection_without_streams_ends_after_a_while() {
    let secure = Secure::new("localhost").await;
    let port = secure.port();
    let rules = [format!("host=localhost port={port}")];
    let setting = Setting::to_name("localhost", port, &rules);
    let limits = Limits { idle: Duration::from_millis(50), ..setting.limits.clone() };
    let stage = secure.stage(Setting { limits, ..setting });
    let client = Many::secured(&stage, port).await;
    assert_eq!(client.ask(client.get("/")).await.status, 200);
    let ended = async {
        while !client.sender.is_closed() {
            tokio::task::yield_now().await;
        }
    };
    soon(ended).await;
    assert_eq!(stage.decisions().await.len(), 1, "it is no fault");
}
