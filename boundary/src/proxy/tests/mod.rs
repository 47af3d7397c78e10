//! The doors, seen from both sides: real sockets on loopback, scripted origins, a jail that knows
//! what the test told it.

#![expect(clippy::disallowed_methods, reason = "tests are the command and the internet, not us")]

mod answered;
mod endings;
mod escapes;
mod faults;
mod floods;
mod frames;
mod gateway;
mod halves;
mod hostile;
mod http;
mod http2;
mod identity;
mod limits;
mod named;
mod short;
mod smuggling;
mod stalls;
mod streams;
mod tls;
mod verification;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::Level;

use super::*;
use crate::audit::{Door, Format, Memory, Process, Session, Sinks};
use crate::rules::{DomainMatch, Rule};

/// Whatever has not happened by then will not.
const DEADLINE: Duration = Duration::from_secs(10);

/// Waits for what must happen soon.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("this should have happened by now")
}

/// Says how long the fault of this test was felt after its end (`docs/faults.md`).
fn recovered(since: std::time::Instant) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    println!("recovered: {test}: {:.1} ms", since.elapsed().as_secs_f64() * 1000.0);
}

/// A proxy with its record, for connections that all come by one door.
struct Stage {
    address: SocketAddr,
    is_explicit: bool,
    authority: Arc<Authority>,
    proxy: Arc<Proxy>,
    /// How often the jail was asked.
    asked: Arc<Mutex<usize>>,
    records: Memory,
    recorder: Recorder,
    /// Ends the session when dropped or sent.
    shutdown: Option<oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<Result<(), Error>>>,
}

/// A jail that was told where its connections meant to go.
#[derive(Debug)]
struct Told {
    door: Door,
    target: Option<SocketAddr>,
    asked: Arc<Mutex<usize>>,
    /// Which question it breaks at.
    breaks_at: Option<usize>,
}

impl Origin for Told {
    fn flow(&self, client: SocketAddr, local: SocketAddr) -> Option<Flow> {
        let asked = {
            let mut asked = self.asked.lock().unwrap();
            *asked += 1;
            *asked
        };
        assert_ne!(Some(asked), self.breaks_at, "as it should");
        let process = Some(Process { pid: 7, comm: "curl".into(), ..Process::default() });
        let target = match self.door {
            Door::Explicit => local,
            Door::Redirect | Door::Dns | Door::Kernel => self.target?,
        };
        Some(Flow { door: self.door, client, target, process })
    }

    fn asker(&self, _client: SocketAddr, _asked: Option<IpAddr>) -> Option<Process> {
        None
    }
}

/// What a stage is made of, where a test wants it otherwise.
struct Setting {
    door: Door,
    target: Option<SocketAddr>,
    rules: Vec<String>,
    limits: Limits,
    egress: Egress,
    pinned: Option<&'static str>,
    /// The host's search list.
    search: Vec<String>,
    /// Names and the addresses that real answers gave them.
    noted: Vec<(&'static str, IpAddr)>,
    /// At which connection the jail breaks.
    breaks_at: Option<usize>,
    /// How much memory is held.
    held: Arc<AtomicUsize>,
}

impl Setting {
    fn redirected(target: SocketAddr, rules: &[String]) -> Self {
        let limits = Limits { drain: Duration::from_millis(200), ..Limits::default() };
        let rules = rules.to_vec();
        Self {
            door: Door::Redirect,
            target: Some(target),
            rules,
            limits,
            egress: Egress::default(),
            pinned: None,
            search: vec![],
            noted: vec![],
            breaks_at: None,
            held: Arc::default(),
        }
    }

    fn explicit(rules: &[String]) -> Self {
        let door = Door::Explicit;
        Self { door, target: None, ..Self::redirected(([127, 0, 0, 1], 1).into(), rules) }
    }

    /// The connection goes to the synthetic address of a name.
    fn to_name(name: &'static str, port: u16, rules: &[String]) -> Self {
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        Self { pinned: Some(name), ..Self::redirected(target, rules) }
    }

    fn start(mut self) -> Stage {
        let pins = Arc::new(Pins::searching(std::mem::take(&mut self.search)));
        if let (Some(name), Some(target)) = (self.pinned, &mut self.target) {
            let pin = pins.pin(&name.parse_host()).expect("there is room");
            target.set_ip(IpAddr::V4(pin.v4));
        }
        for (name, address) in &self.noted {
            pins.note(&name.parse_host(), *address);
        }
        let (sinks, _log, records) = Sinks::memory(Level::INFO, Format::Text);
        let recorder = Recorder::start(sinks, session()).unwrap();
        let authority = Arc::new(Authority::new().unwrap());
        let rules = self.rules.iter().map(|rule| rule.parse::<Rule>().unwrap()).collect();
        let rules = Arc::new(Policies::new(RuleSet::new(rules, DomainMatch::Subdomains)));
        let resolver = Resolver::new(Arc::clone(&pins), Arc::clone(&rules), recorder.clone());
        let asked: Arc<Mutex<usize>> = Arc::default();
        let parts = Parts {
            rules,
            resolver: Arc::new(resolver),
            authority: Arc::clone(&authority),
            pins: Arc::clone(&pins),
            recorder: recorder.clone(),
            origin: Arc::new(Told {
                door: self.door,
                target: self.target,
                asked: Arc::clone(&asked),
                breaks_at: self.breaks_at,
            }),
        };
        let (proxy, held) = (Proxy::new(parts, self.limits, self.egress).unwrap(), self.held);
        let proxy = Arc::new(proxy.weighing(move || Some(held.load(Ordering::Relaxed))));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, ended) = oneshot::channel::<()>();
        let doors = Doors { tcp: vec![listener], dns: vec![] };
        let served = tokio::spawn(Arc::clone(&proxy).serve(doors, async {
            drop(ended.await);
        }));
        let (shutdown, served) = (Some(shutdown), Some(served));
        let is_explicit = self.door == Door::Explicit;
        Stage { address, is_explicit, authority, proxy, asked, records, recorder, shutdown, served }
    }
}

impl Stage {
    fn redirected(target: SocketAddr, rules: &[String]) -> Self {
        Setting::redirected(target, rules).start()
    }

    async fn connect(&self) -> Client<TcpStream> {
        Client(soon(TcpStream::connect(self.address)).await.unwrap())
    }

    /// Ends the session, and reads what was recorded.
    async fn records(mut self) -> Vec<serde_json::Value> {
        drop(self.shutdown.take());
        soon(self.served.take().unwrap()).await.unwrap().unwrap();
        self.recorder.flush(DEADLINE);
        self.records.decisions()
    }

    /// The decisions alone: `decision code url`, or for a stream `decision code proto host port`.
    async fn decisions(self) -> Vec<String> {
        let text =
            |record: &serde_json::Value, key: &str| record[key].as_str().unwrap_or("-").to_owned();
        let records = self.records().await;
        let opening = records.iter().filter(|record| record.get("duration_ms").is_none());
        opening
            .map(|record| {
                let what = match record["http_url"].as_str() {
                    Some(url) => url.to_owned(),
                    None => format!(
                        "{} {} {}",
                        text(record, "proto"),
                        text(record, "host"),
                        record["port"].as_u64().unwrap_or_default()
                    ),
                };
                format!("{} {} {what}", text(record, "decision"), text(record, "code"))
            })
            .collect()
    }
}

/// A host in a test.
trait ParseHost {
    fn parse_host(&self) -> Host;
}

impl ParseHost for str {
    fn parse_host(&self) -> Host {
        Host::parse(self).unwrap()
    }
}

fn session() -> Session {
    Session { jail: "ebpf", query: true, ..Session::default() }
}

/// A client that writes what a test says.
struct Client<S>(S);

/// What came back.
#[derive(Debug)]
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.0.write_all(bytes.as_ref())).await.unwrap();
        soon(self.0.flush()).await.unwrap();
    }

    /// Says a request, and reads its answer.
    async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Got {
        let is_head = bytes.as_ref().starts_with(b"HEAD ");
        self.say(bytes).await;
        self.answer(is_head).await
    }

    /// Asks for a tunnel; what follows is inside if it was granted.
    async fn open(&mut self, authority: &str) -> u16 {
        self.say(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
        self.head().await.0
    }

    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let byte = soon(self.0.read_u8()).await;
            line.push(byte.unwrap_or_else(|error| {
                panic!("{error} after {:?}", String::from_utf8_lossy(&line))
            }));
        }
        String::from_utf8(line).unwrap()
    }

    async fn head(&mut self) -> (u16, String) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head += &self.line().await;
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head)
    }

    async fn answer(&mut self, is_head: bool) -> Got {
        let (status, head) = self.head().await;
        self.body_of(status, head, is_head).await
    }

    /// The rest of an answer whose head was read.
    async fn body_of(&mut self, status: u16, head: String, is_head: bool) -> Got {
        let mut got = Got { status, head, body: vec![] };
        if is_head || matches!(status, 100..=199 | 204 | 304) {
            return got;
        }
        if let Some(length) = got.field("content-length") {
            got.body = vec![0; length.parse().unwrap()];
            soon(self.0.read_exact(&mut got.body)).await.unwrap();
        } else if got.field("transfer-encoding").is_some() {
            while let Some(mut chunk) = self.chunk().await {
                got.body.append(&mut chunk);
            }
        } else {
            soon(self.0.read_to_end(&mut got.body)).await.unwrap();
        }
        got
    }

    /// Reads a request's head, on the upstream's side.
    async fn head_of_request(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head += &self.line().await;
        }
        head
    }

    /// One chunk; `None` for the last, with its trailers.
    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(self.line().await.trim(), 16).unwrap();
        if size == 0 {
            while self.line().await != "\r\n" {}
            return None;
        }
        let mut chunk = vec![0; size + 2];
        soon(self.0.read_exact(&mut chunk)).await.unwrap();
        chunk.truncate(size);
        Some(chunk)
    }

    /// There is nothing more.
    async fn ends(&mut self) {
        assert_eq!(self.rest().await, b"");
    }

    /// Everything until the end; a reset is an end too.
    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        drop(soon(self.0.read_to_end(&mut rest)).await);
        rest
    }
}

/// An origin that keeps what it was sent, byte for byte, and answers from a script.
struct Scripted {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
}

impl Scripted {
    /// An origin whose answer depends on the request.
    async fn new(script: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::bound((Ipv4Addr::LOCALHOST, 0).into(), script).await
    }

    /// An origin that says yes, at an address.
    async fn at(address: SocketAddr) -> Self {
        let script = |_: &str| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into();
        Self::bound(address, script).await
    }

    async fn bound(
        address: SocketAddr,
        script: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::default(), Arc::default());
        let origin = Self { address, requests: Arc::clone(&requests), connections };
        let connections = Arc::clone(&origin.connections);
        let script = Arc::new(script);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *connections.lock().unwrap() += 1;
                tokio::spawn(attend(stream, Arc::clone(&requests), Arc::clone(&script)));
            }
        });
        origin
    }

    /// An origin that says yes.
    async fn fine() -> Self {
        Self::new(|_| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into()).await
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    fn authority(&self) -> String {
        self.address.to_string()
    }

    /// A rule for this origin.
    fn rule(&self, rest: &str) -> Vec<String> {
        vec![format!("host=127.0.0.1 port={} {rest}", self.address.port())]
    }
}

/// Reads requests until the client is done, and answers each. An answer that closes closes.
async fn attend<S, F>(stream: S, requests: Arc<Mutex<Vec<String>>>, script: Arc<F>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(&str) -> String,
{
    let mut stream = stream;
    let mut bytes = Vec::new();
    loop {
        while !is_whole(&bytes) {
            match stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        let request = String::from_utf8_lossy(&std::mem::take(&mut bytes)).into_owned();
        let answer = script(&request);
        requests.lock().unwrap().push(request);
        stream.write_all(answer.as_bytes()).await.unwrap();
        if answer.contains("Connection: close") || answer.is_empty() {
            return;
        }
    }
}

/// Whether the bytes are one whole request. Good enough for what the proxy writes.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        return body.starts_with("0\r\n") && body.ends_with("\r\n\r\n")
            || body.contains("\r\n0\r\n") && body.ends_with("\r\n\r\n");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}
