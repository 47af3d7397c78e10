//! Sections C and D of the escape catalogue, at every entry: the same question by every way in has
//! the same answer, and the origin gets what was judged or nothing.
//!
//! *Standing*: a test is named for its line (`c01_…` is C-1); the journeys in `tests/escape` say the
//! same with real programs. A new door or version is a new [`Entry`], and every test then asks it.

#![expect(clippy::excessive_nesting, reason = "rows of rows at every entry")]

mod differential;
mod identity;
mod requests;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::frames::{self, Frames};
use super::tls::Secure;
use super::*;

/// The authority that a row means when it says nothing else.
const HERE: &str = "localhost:PORT";

/// A stream of any kind.
trait Both: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Both for S {}

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// A connection that the jail turned, plain.
    Plain,
    /// The same, asking for a WebSocket.
    Socket,
    /// Absolute-form to the proxy.
    Absolute,
    /// Plain HTTP in a tunnel.
    Tunnel,
    /// A connection that the jail turned, TLS.
    Secure,
    /// TLS in a tunnel.
    SecureTunnel,
    /// HTTP/2 in TLS on a connection that the jail turned.
    H2,
    /// HTTP/2 in TLS in a tunnel.
    H2Tunnel,
    /// HTTP/2 that began without being agreed on, plain.
    H2Plain,
}

impl Entry {
    /// Every way in to an origin of HTTP/1.1. What begins in HTTP/2 unagreed goes on in it.
    const ALL: [Self; 8] = [
        Self::Plain,
        Self::Socket,
        Self::Absolute,
        Self::Tunnel,
        Self::Secure,
        Self::SecureTunnel,
        Self::H2,
        Self::H2Tunnel,
    ];
    /// Those that speak HTTP/1.
    const H1: [Self; 6] =
        [Self::Plain, Self::Socket, Self::Absolute, Self::Tunnel, Self::Secure, Self::SecureTunnel];

    fn is_h2(self) -> bool {
        matches!(self, Self::H2 | Self::H2Tunnel | Self::H2Plain)
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::Secure | Self::SecureTunnel | Self::H2 | Self::H2Tunnel)
    }

    fn scheme(self) -> &'static str {
        if self.is_tls() { "https" } else { "http" }
    }
}

/// A question. `PORT` in it is the origin's port.
#[derive(Debug, Clone, Copy)]
struct Ask<'a> {
    method: &'a str,
    path: &'a str,
    /// What the request line names, or `:authority`, where there is such a place.
    target: &'a str,
    /// The `Host` field; HTTP/2 has none unless it is said.
    host: Option<&'a str>,
    /// More fields, one a line.
    fields: &'a str,
    body: &'a str,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self { method: "GET", path: "/yes", target: HERE, host: None, fields: "", body: "" }
    }
}

impl<'a> Ask<'a> {
    fn path(path: &'a str) -> Self {
        Self { path, ..Self::default() }
    }

    fn method(method: &'a str) -> Self {
        Self { method, ..Self::default() }
    }

    /// Whatever names the host names this.
    fn of(host: &'a str) -> Self {
        Self { target: host, ..Self::default() }
    }

    /// The request as HTTP/1 says it.
    fn text(&self, entry: Entry) -> String {
        let Self { method, path, target, host, fields, body } = *self;
        let line = if entry == Entry::Absolute {
            format!("{method} http://{target}{path} HTTP/1.1")
        } else {
            format!("{method} {path} HTTP/1.1")
        };
        let upgrade = if entry == Entry::Socket {
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        } else {
            ""
        };
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let fields: Vec<_> = fields.lines().map(|field| format!("{field}\r\n")).collect();
        let fields = fields.concat();
        let host = host.unwrap_or(target);
        format!("{line}\r\nHost: {host}\r\n{upgrade}{length}{fields}\r\n{body}")
    }

    /// The same as HTTP/2 says it.
    fn fields(&self, entry: Entry) -> Vec<(String, String)> {
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut all = vec![
            own(":method", self.method),
            own(":scheme", entry.scheme()),
            own(":authority", self.target),
            own(":path", self.path),
        ];
        all.extend(self.host.map(|host| own("host", host)));
        let fields = self.fields.lines().filter_map(|field| field.split_once(": "));
        all.extend(fields.map(|(name, value)| own(&name.to_ascii_lowercase(), value)));
        if !self.body.is_empty() {
            all.push(own("content-length", &self.body.len().to_string()));
        }
        all
    }
}

/// What came of a question: the status and the code of a refusal. A stream or a connection that was
/// ended without an answer has the status 0.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    status: u16,
    code: String,
}

impl Seen {
    fn is(&self, status: u16, code: &str) -> bool {
        (self.status, self.code.as_str()) == (status, code)
    }

    fn of(status: u16, text: &str) -> Self {
        let code = text.lines().find_map(|line| line.strip_prefix("Code: "));
        Self { status, code: code.unwrap_or_default().to_owned() }
    }
}

/// A connection by one entry.
enum Talk {
    One(Client<Box<dyn Both>>),
    Two(Frames<Box<dyn Both>>),
}

/// An allowed host with every way to it, and another that listens and must never hear anything.
struct Scene {
    plain: Scripted,
    secure: Secure,
    /// At `127.0.0.2`, on the port that the plain origin has at `127.0.0.1`.
    evil: Scripted,
    redirect: Stage,
    redirect_tls: Stage,
    explicit: Stage,
}

impl Scene {
    async fn new(rules: &[&str]) -> Self {
        let rules: Vec<String> = rules.iter().map(|rule| (*rule).to_owned()).collect();
        let plain = Scripted::fine().await;
        let secure = Secure::new("localhost").await;
        let evil = Scripted::at(([127, 0, 0, 2], plain.address.port()).into()).await;
        let redirect = Setting::to_name("localhost", plain.address.port(), &rules).start();
        let redirect_tls = secure.stage(Setting::to_name("localhost", secure.port(), &rules));
        let explicit = secure.stage(Setting::explicit(&rules));
        Self { plain, secure, evil, redirect, redirect_tls, explicit }
    }

    /// The port of the allowed host for an entry.
    fn port(&self, entry: Entry) -> u16 {
        if entry.is_tls() { self.secure.port() } else { self.plain.address.port() }
    }

    fn stage(&self, entry: Entry) -> &Stage {
        match entry {
            Entry::Plain | Entry::Socket | Entry::H2Plain => &self.redirect,
            Entry::Secure | Entry::H2 => &self.redirect_tls,
            Entry::Absolute | Entry::Tunnel | Entry::SecureTunnel | Entry::H2Tunnel => {
                &self.explicit
            }
        }
    }

    /// Everything that the allowed host got by an entry's scheme, and forgets it.
    fn heard(&self, entry: Entry) -> Vec<String> {
        let origin = if entry.is_tls() { &self.secure.origin } else { &self.plain };
        std::mem::take(&mut *origin.requests.lock().unwrap())
    }

    /// Opens a connection to the allowed host.
    async fn open(&self, entry: Entry) -> Talk {
        self.greet(entry, "localhost").await.unwrap()
    }

    /// The same with another name in the greeting, where there is one.
    async fn greet(&self, entry: Entry, sni: &str) -> io::Result<Talk> {
        let stage = self.stage(entry);
        let mut client = stage.connect().await;
        if matches!(entry, Entry::Tunnel | Entry::SecureTunnel | Entry::H2Tunnel) {
            let authority = format!("localhost:{}", self.port(entry));
            assert_eq!(client.open(&authority).await, 200, "{entry:?}");
        }
        if !entry.is_tls() {
            let stream: Box<dyn Both> = Box::new(client.0);
            let is_h2 = entry.is_h2();
            return Ok(if is_h2 {
                Talk::Two(Frames::begin(stream).await)
            } else {
                Talk::One(Client(stream))
            });
        }
        let protocol: &[u8] = if entry.is_h2() { b"h2" } else { b"http/1.1" };
        let stream = offered(stage, client.0, sni, &[protocol]).await?;
        if !entry.is_h2() {
            return Ok(Talk::One(Client(Box::new(stream.0))));
        }
        let stream: Box<dyn Both> = Box::new(stream.0);
        Ok(Talk::Two(Frames::begin(stream).await))
    }

    /// Asks one question on a connection of its own.
    async fn ask(&self, entry: Entry, ask: &Ask<'_>) -> Seen {
        self.open(entry).await.ask(entry, self.port(entry), ask).await
    }

    /// Says bytes on a connection of its own, and gives the first answer's status.
    async fn say(&self, entry: Entry, text: &str) -> Seen {
        let Talk::One(mut client) = self.open(entry).await else { panic!("HTTP/1 alone") };
        client.say(text.replace("PORT", &self.port(entry).to_string())).await;
        client.seen().await
    }

    /// Nobody who is not allowed heard anything.
    fn nobody_else_heard(&self) {
        assert!(self.evil.requests().is_empty(), "{:?}", self.evil.requests());
        assert_eq!(self.evil.connections(), 0);
    }
}

impl Talk {
    async fn ask(&mut self, entry: Entry, port: u16, ask: &Ask<'_>) -> Seen {
        let port = port.to_string();
        match self {
            Self::One(client) => {
                let text = ask.text(entry).replace("PORT", &port);
                client.say(text).await;
                client.seen_of(ask.method == "HEAD").await
            }
            Self::Two(frames) => {
                let fields = ask.fields(entry);
                let fields: Vec<(String, String)> = fields
                    .into_iter()
                    .map(|(name, value)| (name, value.replace("PORT", &port)))
                    .collect();
                let fields: Vec<frames::Field<'_>> = fields
                    .iter()
                    .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
                    .collect();
                let got = frames.ask(&fields, ask.body.as_bytes()).await;
                Seen::of(got.status, &String::from_utf8_lossy(&got.body))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// The next answer, or the end of the connection.
    async fn seen(&mut self) -> Seen {
        self.seen_of(false).await
    }

    async fn seen_of(&mut self, is_head: bool) -> Seen {
        let mut first = [0];
        if !matches!(soon(self.0.read(&mut first)).await, Ok(1)) {
            return Seen::of(0, "");
        }
        let mut head = String::from(char::from(first[0]));
        while !head.ends_with("\r\n\r\n") {
            head += &self.line().await;
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let got = self.body_of(status, head, is_head).await;
        let code = got.field("x-boundary-denied").unwrap_or_default().to_owned();
        Seen { status, code }
    }
}

/// What every TLS client here begins with.
fn config() -> ConfigBuilder<ClientConfig, rustls::WantsVersions> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    ClientConfig::builder_with_provider(Arc::new(provider))
}

/// A client's TLS that offers these protocols and no other.
async fn offered<S: Stream>(
    stage: &Stage,
    stream: S,
    name: &str,
    protocols: &[&[u8]],
) -> io::Result<Client<TlsStream<S>>> {
    let config = config().with_safe_default_protocol_versions().unwrap();
    greet(stage, stream, name, (config, protocols)).await
}

/// A client's TLS over a stream to the proxy, trusting the session's authority alone.
async fn greet<S: Stream>(
    stage: &Stage,
    stream: S,
    name: &str,
    (config, protocols): (ConfigBuilder<ClientConfig, WantsVerifier>, &[&[u8]]),
) -> io::Result<Client<TlsStream<S>>> {
    let mut roots = RootCertStore::empty();
    let pem = stage.authority.certificate_pem().as_bytes();
    roots.add(CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await?;
    Ok(Client(stream))
}
