//! HTTP to the collector: one request on one connection.
//!
//! *Never*: follows a redirect, or takes a certificate that does not hold.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The longest answer that is read.
const LONGEST: usize = 64 * 1024;

/// What is sent in place of what the library would send: its own way of writing logs costs as much as
/// all other sinks together (docs/decisions/0013-logs-written-by-hand.md).
#[derive(Debug, Clone, Default)]
pub(super) struct Content(Arc<Mutex<Bytes>>);

impl Content {
    /// Sets what is sent from now on.
    pub(super) fn set(&self, bytes: Vec<u8>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bytes.into();
    }

    fn bytes(&self) -> Bytes {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Sends requests to a collector.
#[derive(Clone)]
pub(super) struct Client {
    connector: TlsConnector,
    content: Content,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Trusts the system's roots, or those of a file alone.
    pub(super) fn new(roots: Option<&Path>, content: Content) -> io::Result<Self> {
        let mut store = RootCertStore::empty();
        let certificates = match roots {
            Some(path) => CertificateDer::pem_slice_iter(&fs::read(path)?)
                .collect::<Result<Vec<_>, _>>()
                .map_err(io::Error::other)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        store.add_parsable_certificates(certificates);
        let config = ClientConfig::builder().with_root_certificates(store).with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), content })
    }

    /// One request and its answer.
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let uri = request.uri().clone();
        let stream = connect(&uri).await?;
        if uri.scheme_str() != Some("https") {
            return ask(stream, request).await;
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned())?;
        ask(self.connector.connect(name, stream).await?, request).await
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.exchange(request.map(|_empty| self.content.bytes())).await
    }
}

/// A connection to where a URL leads.
#[expect(
    clippy::disallowed_methods,
    reason = "boundary's own, to the collector that its user named"
)]
async fn connect(uri: &Uri) -> io::Result<TcpStream> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    TcpStream::connect((host, uri.port_u16().unwrap_or(usual))).await
}

/// Asks on a connection and reads the answer.
async fn ask<S>(stream: S, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the connection, which goes with the sender.
    let driver = tokio::spawn(connection);
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
    parts.headers.insert(HOST, HeaderValue::from_str(authority)?);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse()?;
    let answer = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
    let (parts, body) = answer.into_parts();
    let body = read(body).await?;
    driver.abort();
    Ok(Response::from_parts(parts, body))
}

/// The content of an answer, if it is not too long.
async fn read<B>(body: B) -> Result<Bytes, HttpError>
where
    B: Body<Data = Bytes, Error = hyper::Error>,
{
    Ok(Limited::new(body, LONGEST).collect().await?.to_bytes())
}
