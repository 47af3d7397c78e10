//! Interception, end to end: a client that trusts the session's authority, an origin that the proxy
//! trusts or not.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::Stream;
use super::*;
use crate::dns::Directory;

/// An origin behind TLS, with a certificate for `name` by an authority of its own.
pub(super) struct Secure {
    server: Arc<ServerConfig>,
    pub(super) origin: Scripted,
    /// Of every handshake, whether it resumed a session.
    handshakes: Arc<Mutex<Vec<bool>>>,
    roots: Vec<CertificateDer<'static>>,
}

pub(super) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[derive(Debug)]
struct Fixed(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Fixed {
    fn resolve(
        &self,
        _greeting: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// How a server speaks that has a certificate for `name`, and the root that vouches for it.
pub(super) fn vouched(name: &str) -> (ServerConfig, String) {
    let authority = Authority::new().unwrap();
    let leaf = authority.leaf(&name.parse_host()).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Fixed(leaf)));
    (config, authority.certificate_pem().to_owned())
}

impl Secure {
    pub(super) async fn new(name: &str) -> Self {
        let (config, root) = vouched(name);
        Self::serving(Arc::new(config), &root).await
    }

    /// An origin that speaks as it is told, with the root that vouches for it.
    pub(super) async fn serving(server: Arc<ServerConfig>, root_pem: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let secure = Self::at(listener.local_addr().unwrap(), server, root_pem);
        let acceptor = TlsAcceptor::from(secure.server());
        let requests = Arc::clone(&secure.origin.requests);
        tokio::spawn(answer_all(listener, acceptor, requests, Arc::clone(&secure.handshakes)));
        secure
    }

    /// Whoever is at an address.
    pub(super) fn at(address: SocketAddr, server: Arc<ServerConfig>, root_pem: &str) -> Self {
        let roots = roots_in(root_pem.as_bytes()).unwrap();
        let origin = Scripted { address, requests: Arc::default(), connections: Arc::default() };
        Self { server, origin, handshakes: Arc::default(), roots }
    }

    /// Of every handshake, whether it resumed a session.
    pub(super) fn handshakes(&self) -> Vec<bool> {
        self.handshakes.lock().unwrap().clone()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.origin.address
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.origin.requests()
    }

    /// How a server speaks under this certificate.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    pub(super) fn port(&self) -> u16 {
        self.origin.address.port()
    }

    /// What makes a proxy trust this origin.
    pub(super) fn egress(&self) -> Egress {
        Egress { roots: self.roots.clone(), ..Egress::default() }
    }

    /// A stage whose proxy trusts this origin.
    pub(super) fn stage(&self, setting: Setting) -> Stage {
        Setting { egress: self.egress(), ..setting }.start()
    }
}

/// Says yes to everybody who finishes the handshake.
async fn answer_all(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    requests: Arc<Mutex<Vec<String>>>,
    handshakes: Arc<Mutex<Vec<bool>>>,
) {
    let answer = Arc::new(|_: &str| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(stream) = acceptor.accept(stream).await {
            let kind = stream.get_ref().1.handshake_kind();
            handshakes.lock().unwrap().push(kind == Some(rustls::HandshakeKind::Resumed));
            tokio::spawn(attend(stream, Arc::clone(&requests), Arc::clone(&answer)));
        }
    }
}

/// A client's TLS over a stream to the proxy, trusting the session's authority alone.
pub(super) async fn secured<S: Stream>(
    stage: &Stage,
    stream: S,
    name: &str,
) -> Client<TlsStream<S>> {
    greeted(stage, stream, name, true).await.unwrap()
}

pub(super) async fn greeted<S: Stream>(
    stage: &Stage,
    stream: S,
    name: &str,
    sni: bool,
) -> io::Result<Client<TlsStream<S>>> {
    greeted_with(stage, stream, name, sni, b"http/1.1").await
}

/// A client's TLS that offers one protocol.
pub(super) async fn greeted_with<S: Stream>(
    stage: &Stage,
    stream: S,
    name: &str,
    sni: bool,
    protocol: &[u8],
) -> io::Result<Client<TlsStream<S>>> {
    let mut roots = RootCertStore::empty();
    let pem = stage.authority.certificate_pem().as_bytes();
    roots.add(CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_sni = sni;
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await?;
    Ok(Client(stream))
}

/// The first thing that a client says.
pub(super) fn greeting(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut greeting = Vec::new();
    client.write_tls(&mut greeting).unwrap();
    greeting
}

pub(super) fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[tokio::test]
async fn https_is_opened_judged_and_sent_on_verified() {
    let secure = Secure::new("localhost").await;
    let port = secure.port();
    let rules = [format!("host=localhost port={port} path=/yes")];
    let stage = secure.stage(Setting::to_name("localhost", port, &rules));
    let mut client = secured(&stage, stage.connect().await.0, "localhost").await;
    assert_eq!(client.0.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let host = format!("localhost:{port}");
    assert_eq!(client.ask(get(&host, "/yes")).await.text(), "ok");
    let denied = client.ask(get(&host, "/no")).await;
    assert_eq!(denied.status, 403);
    assert!(denied.text().contains(&format!("https://{host}/no")), "{}", denied.text());
    assert_eq!(client.ask(get(&host, "/yes")).await.status, 200);
    assert_eq!(secure.origin.requests().len(), 2);
    assert_eq!(
        stage.decisions().await,
        [
            format!("allow - https://{host}/yes"),
            format!("deny no_rule https://{host}/no"),
            format!("allow - https://{host}/yes"),
        ]
    );
}

#[tokio::test]
async fn a_tunnel_to_https_is_opened_like_any() {
    let secure = Secure::new("localhost").await;
    let host = format!("localhost:{}", secure.port());
    let rules = ["host=localhost path=/yes".to_owned()];
    let stage = secure.stage(Setting::explicit(&rules));
    let mut client = stage.connect().await;
    assert_eq!(client.open(&host).await, 200);
    let mut client = secured(&stage, client.0, "localhost").await;
    assert_eq!(client.ask(get(&host, "/yes")).await.status, 200);
    assert_eq!(client.ask(get(&host, "/no")).await.status, 403);
    assert_eq!(secure.origin.requests().len(), 1);
}

#[tokio::test]
async fn a_greeting_right_behind_connect_is_not_lost() {
    let secure = Secure::new("localhost").await;
    let host = format!("localhost:{}", secure.port());
    let stage = secure.stage(Setting::explicit(&["host=localhost".into()]));
    let mut stream = stage.connect().await;
    // The client does not wait for the 200: it writes its greeting at once, and reads both.
    let (near, far) = tokio::io::duplex(16 * 1024);
    let (mut near_read, mut near_write) = tokio::io::split(near);
    let pump = async {
        let mut greeting = vec![0; 8 * 1024];
        let length = near_read.read(&mut greeting).await.unwrap();
        let connect = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.say([connect.as_bytes(), &greeting[..length]].concat()).await;
        assert_eq!(stream.head().await.0, 200);
        let (mut read, mut write) = stream.0.split();
        tokio::select! {
            _ = tokio::io::copy(&mut read, &mut near_write) => {}
            _ = tokio::io::copy(&mut near_read, &mut write) => {}
        }
    };
    let talk = async {
        let mut client = secured(&stage, far, "localhost").await;
        assert_eq!(client.ask(get(&host, "/")).await.status, 200);
    };
    tokio::select! { () = pump => panic!("the proxy hung up"), () = talk => {} }
}

#[tokio::test]
async fn an_address_is_served_without_a_name_in_the_greeting() {
    let secure = Secure::new("127.0.0.1").await;
    let host = format!("127.0.0.1:{}", secure.port());
    let rules = ["host=127.0.0.1".to_owned()];
    let stage = secure.stage(Setting::redirected(secure.origin.address, &rules));
    let mut client = secured(&stage, stage.connect().await.0, "127.0.0.1").await;
    assert_eq!(client.ask(get(&host, "/")).await.status, 200);
}

#[tokio::test]
async fn a_client_without_sni_gets_the_leaf_of_the_name_it_asked_for() {
    let secure = Secure::new("localhost").await;
    let host = format!("localhost:{}", secure.port());
    let rules = ["host=localhost".to_owned()];
    let stage = secure.stage(Setting::to_name("localhost", secure.port(), &rules));
    let stream = stage.connect().await.0;
    let mut client = greeted(&stage, stream, "localhost", false).await.unwrap();
    assert_eq!(client.ask(get(&host, "/")).await.status, 200);
}

#[tokio::test]
async fn fronting_is_a_mismatch_whatever_is_allowed() {
    let secure = Secure::new("localhost").await;
    let port = secure.port();
    let rules: Vec<String> = ["host=localhost", "domain=front.example", "domain=evil.example"]
        .map(str::to_owned)
        .to_vec();
    let stage = secure.stage(Setting::to_name("localhost", port, &rules));
    // (SNI, Host): the connection goes to localhost.
    let rows = [
        ("localhost", format!("evil.example:{port}")),
        ("front.example", format!("localhost:{port}")),
        ("front.example", format!("front.example:{port}")),
        ("localhost", "localhost".into()),
    ];
    for (sni, host) in &rows {
        let mut client = secured(&stage, stage.connect().await.0, sni).await;
        let got = client.ask(get(host, "/")).await;
        let code = got.field("x-boundary-denied");
        assert_eq!((got.status, code), (403, Some("host_mismatch")), "{sni} {host}");
    }
    assert!(secure.origin.requests().is_empty());
    assert_eq!(stage.decisions().await.len(), rows.len());
}

#[tokio::test]
async fn a_bad_upstream_certificate_is_a_502_that_says_so() {
    // Signed by nobody we know.
    let secure = Secure::new("localhost").await;
    let host = format!("localhost:{}", secure.port());
    let rules = ["host=localhost".to_owned()];
    let stage = Setting::to_name("localhost", secure.port(), &rules).start();
    let mut client = secured(&stage, stage.connect().await.0, "localhost").await;
    let got = client.ask(get(&host, "/")).await;
    assert_eq!(got.status, 502);
    let told = got.text();
    assert!(told.contains("bad_certificate") && told.contains("UnknownIssuer"), "{told}");
    // Signed by somebody we trust, for somebody else.
    let secure = Secure::new("other.example").await;
    let host = format!("localhost:{}", secure.port());
    let stage = secure.stage(Setting::to_name("localhost", secure.port(), &rules));
    let mut client = secured(&stage, stage.connect().await.0, "localhost").await;
    let got = client.ask(get(&host, "/")).await;
    assert_eq!(got.status, 502);
    assert!(got.text().contains("bad_certificate"), "{}", got.text());
    assert!(secure.origin.requests().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn a_greeting_with_a_shorter_name_is_not_passed_on() {
    let secure = Secure::new("db.test").await;
    let port = secure.port();
    let search = vec!["test".to_owned()];
    let rules = [format!("proto=tls host=db.test,127.0.0.1 port={port}")];
    let directory = Some(Arc::new(Directory::new("127.0.0.1 db.test", "")));
    let egress = Egress { directory, ..Egress::default() };
    let setting = Setting { egress, search, ..Setting::to_name("db.test", port, &rules) };
    let stage = setting.start();
    let stream = stage.connect().await.0;
    assert!(greeted(&stage, stream, "db", true).await.is_err());
    let stream = stage.connect().await.0;
    let error = greeted(&stage, stream, "db.test", true).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "it is passed on: {error}");
    assert_eq!(stage.records().await[0]["code"], "host_mismatch");
}

#[tokio::test]
async fn a_tls_rule_passes_the_stream_unopened() {
    let secure = Secure::new("localhost").await;
    let port = secure.port();
    let rules = [format!("proto=tls host=localhost port={port}")];
    let stage = Setting::to_name("localhost", port, &rules).start();
    // The session's authority does not vouch here: the origin's own certificate comes through.
    let stream = stage.connect().await.0;
    let error = greeted(&stage, stream, "localhost", true).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    // Another name in the greeting is not what the rule passes.
    let stream = stage.connect().await.0;
    assert!(greeted(&stage, stream, "other.example", true).await.is_err());
    let decisions = stage.decisions().await;
    let what = format!("tls localhost {port}");
    assert_eq!(decisions, [format!("allow - {what}"), format!("deny host_mismatch {what}")]);
}

#[tokio::test]
async fn tls_to_the_proxy_itself_is_refused_and_recorded() {
    let stage = Setting::explicit(&["domain=*".into()]).start();
    let port = stage.address.port();
    let stream = stage.connect().await.0;
    assert!(greeted(&stage, stream, "localhost", true).await.is_err());
    assert_eq!(stage.decisions().await, [format!("deny unclear_protocol - - {port}")]);
}

#[tokio::test]
async fn a_client_resumes_its_session_and_skips_no_verdict() {
    let secure = Secure::new("localhost").await;
    let port = secure.port();
    let rules = ["host=localhost path=/yes".to_owned()];
    let stage = secure.stage(Setting::to_name("localhost", port, &rules));
    let mut roots = RootCertStore::empty();
    let pem = stage.authority.certificate_pem().as_bytes();
    roots.add(CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let mut kinds = vec![];
        for _ in 0..3 {
            let name = ServerName::try_from("localhost").unwrap();
            let stream = soon(connector.connect(name, stage.connect().await.0)).await.unwrap();
            let mut client = Client(stream);
            let host = format!("localhost:{port}");
            assert_eq!(client.ask(get(&host, "/yes")).await.status, 200);
            assert_eq!(client.ask(get(&host, "/no")).await.status, 403);
            let elsewhere = client.ask(get(&format!("elsewhere.example:{port}"), "/yes")).await;
            assert_eq!(elsewhere.field("x-boundary-denied"), Some("host_mismatch"));
            kinds.push(client.0.get_ref().1.handshake_kind());
        }
        let resumed = Some(rustls::HandshakeKind::Resumed);
        assert!(kinds[0] != resumed && kinds[1..] == [resumed, resumed], "{kinds:?}");
    }
}
