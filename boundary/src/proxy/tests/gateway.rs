//! By way of a proxy upstream: what it is asked, who may hear its password, and what its refusals
//! become.

use tokio::io::copy_bidirectional;
use tokio_rustls::TlsAcceptor;

use super::super::{Exempt, Gateway, Gateways, Stream};
use super::tls::{Secure, get, greeted, secured};
use super::*;

/// The credentials in every gateway's URL here, as they are sent.
const BASIC: &str = "Basic dXNlcjpodXNo";
/// What a gateway says that lets everybody through.
const WELCOME: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// A proxy between us and the internet that keeps what it was asked.
struct Between {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Between {
    /// One that gives every request the same answer; after a welcome to a tunnel it goes on to
    /// `onward`, whatever name it was asked for.
    async fn new(answer: &'static str, onward: Option<SocketAddr>) -> Self {
        Self::accepting(answer, onward, |stream| async { Ok(stream) }).await
    }

    /// One that is spoken to in TLS.
    async fn secure(certificate: &Secure, onward: SocketAddr) -> Self {
        let acceptor = TlsAcceptor::from(certificate.server());
        Self::accepting(WELCOME, Some(onward), move |stream| acceptor.accept(stream)).await
    }

    async fn accepting<S, F>(
        answer: &'static str,
        onward: Option<SocketAddr>,
        accept: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> Self
    where
        S: Stream,
        F: Future<Output = io::Result<S>> + Send,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let between = Self { address: listener.local_addr().unwrap(), heads: Arc::default() };
        let heads = Arc::clone(&between.heads);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let stream = accept(stream).await;
                let heads = Arc::clone(&heads);
                drop(stream.map(|it| tokio::spawn(attend(Client(it), answer, onward, heads))));
            }
        });
        between
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// The user's wish to go by it for everything.
    fn egress(&self, scheme: &str) -> Egress {
        let url = format!("{scheme}://user:hush@{}", self.address);
        Egress { gateways: through(&url), ..Egress::default() }
    }
}

/// Serves one connection of a gateway.
async fn attend<S: Stream>(
    mut client: Client<S>,
    answer: &'static str,
    onward: Option<SocketAddr>,
    heads: Arc<Mutex<Vec<String>>>,
) {
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let Ok(byte) = client.0.read_u8().await else { return };
            head.push(char::from(byte));
        }
        let is_tunnel = head.starts_with("CONNECT ");
        heads.lock().unwrap().push(head);
        client.say(answer).await;
        if answer.is_empty() {
            // Silence until the client has had enough.
            client.rest().await;
            return;
        }
        if let (true, true, Some(onward)) = (is_tunnel, answer.starts_with(WELCOME), onward) {
            let mut upstream = TcpStream::connect(onward).await.unwrap();
            drop(copy_bidirectional(&mut client.0, &mut upstream).await);
            return;
        }
    }
}

/// By one gateway for everything.
fn through(url: &str) -> Gateways {
    let gateway: Arc<Gateway> = Arc::new(url.parse().unwrap());
    let exempt = Exempt::default();
    Gateways { http: Some(Arc::clone(&gateway)), tunnel: Some(gateway), exempt }
}

/// A name that nobody can resolve here.
const NAME: &str = "upstream.example";

#[tokio::test]
async fn https_goes_through_a_tunnel_by_name_and_is_verified_behind_it() {
    let secure = Secure::new(NAME).await;
    let between = Between::new(WELCOME, Some(secure.address())).await;
    let mut egress = between.egress("http");
    egress.roots = secure.egress().roots;
    let rules = [format!("domain={NAME} path=/yes")];
    let stage = Setting { egress, ..Setting::to_name(NAME, 443, &rules) }.start();
    let mut client = secured(&stage, stage.connect().await.0, NAME).await;
    assert_eq!(client.ask(get(NAME, "/no")).await.status, 403);
    assert!(between.heads().is_empty(), "a denied request asks nobody for anything");
    for _ in 0..2 {
        assert_eq!(client.ask(get(NAME, "/yes")).await.text(), "ok");
    }
    let asked = format!(
        "CONNECT {NAME}:443 HTTP/1.1\r\nhost: {NAME}:443\r\nproxy-authorization: {BASIC}\r\n\r\n"
    );
    let heads: Vec<_> = between.heads().iter().map(|head| head.to_lowercase()).collect();
    assert_eq!(heads, [asked.to_lowercase()], "one tunnel for both, and not a word more");
    let requests = secure.requests();
    assert_eq!(requests.len(), 2);
    assert!(!requests.concat().to_lowercase().contains("proxy-"), "{requests:?}");
}

#[tokio::test]
async fn a_certificate_behind_a_tunnel_is_held_against_the_name() {
    // The gateway leads to somebody else, whom we would trust under the right name.
    let secure = Secure::new("elsewhere.example").await;
    let between = Between::new(WELCOME, Some(secure.address())).await;
    let mut egress = between.egress("http");
    egress.roots = secure.egress().roots;
    let rules = [format!("domain={NAME}")];
    let stage = Setting { egress, ..Setting::to_name(NAME, 443, &rules) }.start();
    let mut client = secured(&stage, stage.connect().await.0, NAME).await;
    let got = client.ask(get(NAME, "/")).await;
    assert_eq!(got.status, 502);
    assert!(got.text().contains("bad_certificate"), "{}", got.text());
    assert!(secure.requests().is_empty());
}

#[tokio::test]
async fn no_gateway_is_asked_to_say_again_who_may_pass() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let between = Between::new(answer, None).await;
    let rules = [format!("domain={NAME}")];
    let egress = between.egress("http");
    let stage = Setting { egress, ..Setting::to_name(NAME, 80, &rules) }.start();
    let request = format!("TRACE / HTTP/1.1\r\nHost: {NAME}\r\nMax-Forwards: 0\r\n\r\n");
    let got = stage.connect().await.ask(&request).await;
    assert_eq!(got.status, 502);
    assert!(got.text().contains("unsayable"), "{}", got.text());
    assert!(between.heads().is_empty(), "{:?}", between.heads());
    // One that asks for no password has nothing to tell.
    let url = format!("http://{}", between.address);
    let egress = Egress { gateways: through(&url), ..Egress::default() };
    let stage = Setting { egress, ..Setting::to_name(NAME, 80, &rules) }.start();
    assert_eq!(stage.connect().await.ask(&request).await.status, 200);
    assert_eq!(between.heads().len(), 1);
}

#[tokio::test]
async fn plain_http_is_asked_of_the_gateway_itself() {
    let answer = "HTTP/1.1 200 OK\r\nProxy-Connection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
    let between = Between::new(answer, None).await;
    let egress = between.egress("http");
    let rules = [format!("domain={NAME} path=/yes")];
    let stage = Setting { egress, ..Setting::to_name(NAME, 80, &rules) }.start();
    let mut client = stage.connect().await;
    let request = format!(
        "GET /a/../yes?q=1 HTTP/1.1\r\nHost: {NAME}\r\nProxy-Authorization: Basic bWluZQ==\r\n\r\n"
    );
    let got = client.ask(&request).await;
    assert_eq!((got.status, got.text()), (200, "ok"));
    assert!(!got.head.to_lowercase().contains("proxy-"), "{}", got.head);
    assert_eq!(client.ask(get(NAME, "/no")).await.status, 403);
    assert_eq!(client.ask(&request).await.status, 200);
    // What the parser does not know of a query that is sent by the short way otherwise.
    let odd = format!("GET /yes?q=\"<1>\" HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    assert_eq!(stage.connect().await.ask(&odd).await.status, 200);
    let heads = between.heads();
    assert_eq!(heads.len(), 3);
    for (head, query) in heads.into_iter().zip(["q=1", "q=1", "q=%22%3C1%3E%22"]) {
        let line = format!("GET http://{NAME}/yes?{query} HTTP/1.1\r\n");
        assert!(head.starts_with(&line), "{head}");
        assert!(head.contains(BASIC) && !head.contains("bWluZQ"), "{head}");
    }
}

#[tokio::test]
async fn a_stream_that_is_passed_on_loses_nothing_that_came_with_the_welcome() {
    let welcome = "HTTP/1.1 200 OK\r\n\r\n220 the server speaks first\r\n";
    let between = Between::new(welcome, None).await;
    let egress = between.egress("http");
    let rules = [format!("proto=tcp host={NAME} port=25")];
    let stage = Setting { egress, ..Setting::to_name(NAME, 25, &rules) }.start();
    let mut client = stage.connect().await;
    assert_eq!(client.line().await, "220 the server speaks first\r\n");
    assert!(between.heads()[0].starts_with(&format!("CONNECT {NAME}:25 HTTP/1.1\r\n")));
}

#[tokio::test]
async fn a_refusal_by_the_gateway_is_a_502_that_names_it_and_no_password() {
    for answer in [
        "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\nContent-Length: 4\r\n\r\nhush",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n",
        "SSH-2.0-gateway\r\n",
    ] {
        let between = Between::new(answer, None).await;
        let address = format!("http://{}", between.address);
        let egress = between.egress("http");
        let rules = [format!("domain={NAME}")];
        let stage = Setting { egress, ..Setting::to_name(NAME, 443, &rules) }.start();
        let mut client = secured(&stage, stage.connect().await.0, NAME).await;
        let got = client.ask(get(NAME, "/")).await;
        let told = got.text();
        assert_eq!(got.status, 502, "{told}");
        assert!(told.contains(&address), "{told}");
        assert!(told.contains("proxy_refused") || told.contains("proxy_failed"), "{told}");
        let status = answer.split(' ').nth(1);
        assert!(status.is_none_or(|status| told.contains(status)), "{told}");
        let records = stage.records().await;
        assert_eq!(records.last().unwrap()["http_status"], 502);
        let all = format!("{told}{}{records:?}", got.head);
        assert!(!all.contains("hush") && !all.contains("dXNlcjpodXNo"), "{all}");
    }
}

#[tokio::test]
async fn a_gateway_that_asks_for_credentials_over_plain_http_is_a_502_too() {
    let answer =
        "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
    let between = Between::new(answer, None).await;
    let egress = between.egress("http");
    let rules = [format!("domain={NAME}")];
    let stage = Setting { egress, ..Setting::to_name(NAME, 80, &rules) }.start();
    let got = stage.connect().await.ask(get(NAME, "/")).await;
    assert_eq!(got.status, 502);
    assert!(got.text().contains("proxy_refused") && got.text().contains("407"), "{}", got.text());
    // OPTIONS to a whole server has no spelling that a gateway would pass on.
    let options = format!("OPTIONS * HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    let got = stage.connect().await.ask(options).await;
    assert_eq!((got.status, between.heads().len()), (502, 1), "{}", got.text());
}

#[tokio::test]
async fn a_gateway_that_is_gone_or_silent_is_not_gone_round() {
    let secure = Secure::new("localhost").await;
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let nobody = closed.local_addr().unwrap();
    drop(closed);
    let silent = Between::new("", None).await;
    for (address, status) in [(nobody, 502), (silent.address, 504)] {
        let mut egress = secure.egress();
        egress.gateways = through(&format!("http://user:hush@{address}"));
        let limits = Limits { dial: Duration::from_millis(300), ..Limits::default() };
        let rules = [format!("domain={NAME}")];
        let stage = Setting { limits, egress, ..Setting::to_name(NAME, 443, &rules) }.start();
        let mut client = secured(&stage, stage.connect().await.0, NAME).await;
        let got = client.ask(get(NAME, "/")).await;
        assert_eq!(got.status, status, "{}", got.text());
        assert!(!got.text().contains("hush"), "{}", got.text());
    }
    assert!(secure.requests().is_empty());
}

#[tokio::test]
async fn a_gateway_spoken_to_in_tls_proves_who_it_is() {
    let secure = Secure::new(NAME).await;
    let certificate = Secure::new("127.0.0.1").await;
    let between = Between::secure(&certificate, secure.address()).await;
    for trusted in [true, false] {
        let mut egress = between.egress("https");
        egress.roots = secure.egress().roots;
        if trusted {
            egress.roots.extend(certificate.egress().roots);
        }
        let rules = [format!("domain={NAME}")];
        let stage = Setting { egress, ..Setting::to_name(NAME, 443, &rules) }.start();
        let mut client = secured(&stage, stage.connect().await.0, NAME).await;
        let got = client.ask(get(NAME, "/")).await;
        assert_eq!(got.status, if trusted { 200 } else { 502 }, "{}", got.text());
    }
    assert_eq!(between.heads().len(), 1, "the password is told to nobody unproved");
    assert!(between.heads()[0].contains(BASIC));
    assert_eq!(secure.requests().len(), 1);
}

#[tokio::test]
async fn what_is_exempt_or_this_machine_is_dialled_directly() {
    let origin = Scripted::fine().await;
    let between = Between::new("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None).await;
    let port = origin.address.port();
    // By its address, and by a name that is exempt and leads there.
    for (host, exempt) in [("127.0.0.1", ""), ("localhost", ""), ("localhost", "localhost")] {
        let mut egress = between.egress("http");
        egress.gateways.exempt = Exempt::parse(exempt);
        let rules = [format!("host={host}")];
        let stage = Setting { egress, ..Setting::explicit(&rules) }.start();
        let request = format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        assert_eq!(stage.connect().await.ask(request).await.text(), "ok");
    }
    assert!(between.heads().is_empty());
}

#[tokio::test]
async fn a_name_at_an_address_of_the_programs_own_has_to_be_there() {
    // Only resolving tells, and this name leads nowhere: neither the address nor the gateway hears.
    let between = Between::new("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None).await;
    let rules = [format!("domain={NAME}")];
    let egress = between.egress("http");
    let target = SocketAddr::from(([192, 0, 2, 1], 80));
    let stage = Setting { egress, ..Setting::redirected(target, &rules) }.start();
    let got = stage.connect().await.ask(get(NAME, "/")).await;
    assert_eq!(got.status, 502);
    assert!(got.text().contains("unresolved"), "{}", got.text());
    assert!(between.heads().is_empty());
}

#[tokio::test]
async fn a_pinned_client_goes_through_the_tunnel_unopened() {
    let secure = Secure::new(NAME).await;
    let between = Between::new(WELCOME, Some(secure.address())).await;
    let rules = [format!("proto=tls host={NAME} port=443")];
    let egress = between.egress("http");
    let stage = Setting { egress, ..Setting::to_name(NAME, 443, &rules) }.start();
    // The origin's own certificate comes through, which the session's authority did not sign.
    let error = greeted(&stage, stage.connect().await.0, NAME, true).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    assert_eq!(between.heads().len(), 1);
}
