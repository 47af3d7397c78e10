//! Upstreams that cannot prove who they are, or cannot speak at all (escapes E-5): each is a 502 that
//! says so, none gets a request, and each is on record.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use super::tls::{Secure, get, secured};
use super::*;

/// The host that every certificate here should be for.
const NAME: &str = "localhost";

/// An authority made by hand, so that it can be made badly.
struct Hand {
    params: CertificateParams,
    key: KeyPair,
}

impl Hand {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        let name = uuid::Uuid::new_v4().to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self { params, key: KeyPair::generate().unwrap() }
    }

    fn root(&self) -> String {
        self.params.self_signed(&self.key).unwrap().pem()
    }

    /// A server with a certificate that this authority signs, its key being `signer`.
    fn server(&self, leaf: &CertificateParams, signer: KeyPair) -> Arc<ServerConfig> {
        let own = KeyPair::generate().unwrap();
        let issuer = Issuer::new(self.params.clone(), signer);
        present(leaf.signed_by(&own, &issuer).unwrap(), &own)
    }

    fn key(&self) -> KeyPair {
        KeyPair::try_from(self.key.serialize_der()).unwrap()
    }
}

fn present(certificate: rcgen::Certificate, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], key)
        .unwrap();
    Arc::new(config)
}

/// A good leaf, to be spoilt.
fn leaf() -> CertificateParams {
    CertificateParams::new(vec![NAME.to_owned()]).unwrap()
}

fn spoilt(spoil: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = leaf();
    spoil(&mut params);
    params
}

/// What a client hears from behind an upstream, and the record's last status.
async fn heard(secure: &Secure) -> (u16, String) {
    let port = secure.address().port();
    let rules = [format!("host={NAME} port={port}")];
    let egress = secure.egress();
    let stage = Setting { egress, ..Setting::to_name(NAME, port, &rules) }.start();
    let mut client = secured(&stage, stage.connect().await.0, NAME).await;
    let host = format!("{NAME}:{port}");
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: hush\r\n\r\n");
    let got = client.ask(request).await;
    let records = stage.records().await;
    assert_eq!(records[0]["decision"], "allow");
    assert_eq!(records.last().unwrap()["http_status"], got.status, "{records:?}");
    (got.status, got.text().to_owned())
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_a_502_and_gets_no_request() {
    let hand = Hand::new();
    let wrong_ca = Hand { params: hand.params.clone(), key: KeyPair::generate().unwrap() };
    let own = KeyPair::generate().unwrap();
    let rows = [
        ("", hand.server(&leaf(), hand.key())),
        (
            "certificate expired",
            hand.server(&spoilt(|it| it.not_after = date_time_ymd(2020, 1, 1)), hand.key()),
        ),
        (
            "not valid yet",
            hand.server(&spoilt(|it| it.not_before = date_time_ymd(2999, 1, 1)), hand.key()),
        ),
        (
            "not valid for name",
            hand.server(&CertificateParams::new(vec!["other.example".into()]).unwrap(), hand.key()),
        ),
        // No alternative name at all: a common name is none.
        ("not valid for name", hand.server(&CertificateParams::default(), hand.key())),
        (
            "extended key usage",
            hand.server(
                &spoilt(|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
                hand.key(),
            ),
        ),
        // Under the authority's name, by another key.
        ("BadSignature", wrong_ca.server(&leaf(), wrong_ca.key())),
        ("UnknownIssuer", Hand::new().server(&leaf(), Hand::new().key())),
        ("UnknownIssuer", present(leaf().self_signed(&own).unwrap(), &own)),
        (
            "CaUsedAsEndEntity",
            hand.server(
                &spoilt(|it| it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
                hand.key(),
            ),
        ),
    ];
    for (says, server) in rows {
        let secure = Secure::serving(server, &hand.root()).await;
        let (status, told) = heard(&secure).await;
        if says.is_empty() {
            assert_eq!(status, 200, "without a fault it is believed: {told}");
            continue;
        }
        assert_eq!(status, 502, "{says}: {told}");
        assert!(told.contains("bad_certificate") && told.contains(says), "{says}: {told}");
        let advice = told.contains("--upstream-ca FILE");
        assert_eq!(advice, says == "UnknownIssuer", "{says}: {told}");
        assert!(secure.requests().is_empty(), "{says}: nothing is sent");
    }
}

/// An upstream that answers a greeting with these bytes and goes.
async fn raw(answer: &'static [u8]) -> Secure {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut greeting = [0; 4096];
            assert!(stream.read(&mut greeting).await.unwrap() > 0);
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    let hand = Hand::new();
    Secure::at(address, hand.server(&leaf(), hand.key()), &hand.root())
}

#[tokio::test]
async fn an_upstream_without_common_ground_is_a_502_that_says_so() {
    let rows: [(&[u8], &str, &str); 5] = [
        (b"\x15\x03\x01\x00\x02\x02\x46", "handshake_failed", "ProtocolVersion"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "handshake_failed", "HandshakeFailure"),
        (b"\x15\x03\x03\x00\x02\x02\x70", "handshake_failed", "UnrecognisedName"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not_tls", "does not speak TLS"),
        (b"", "handshake_failed", "eof"),
    ];
    for (answer, code, says) in rows {
        let (status, told) = heard(&raw(answer).await).await;
        assert_eq!(status, 502, "{says}: {told}");
        assert!(told.contains(code) && told.contains(says), "{says}: {told}");
    }
}

#[tokio::test]
async fn sessions_upstream_are_resumed_and_every_request_is_still_judged() {
    let secure = Secure::new(NAME).await;
    let port = secure.address().port();
    let rules = [format!("host={NAME} port={port} path=/yes")];
    // Nothing is kept alive, so that each request is a connection.
    let limits = Limits { idle_per_host: 0, ..Limits::default() };
    let egress = secure.egress();
    let stage = Setting { limits, egress, ..Setting::to_name(NAME, port, &rules) }.start();
    let host = format!("{NAME}:{port}");
    for (path, status) in [("/yes", 200), ("/yes", 200), ("/no", 403), ("/yes", 200)] {
        let mut client = secured(&stage, stage.connect().await.0, NAME).await;
        assert_eq!(client.ask(get(&host, path)).await.status, status);
    }
    let kinds = secure.handshakes();
    assert_eq!(kinds.len(), 3, "{kinds:?}");
    assert!(!kinds[0] && kinds[1] && kinds[2], "all but the first are resumed: {kinds:?}");
}
