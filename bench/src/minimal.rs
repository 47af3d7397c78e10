//! The least that a proxy which opens TLS and judges every request can cost: the yardstick.
//!
//! Heads of HTTP/1 are found, the host is looked up in a table, bodies of a known length are
//! relayed, each client connection has one upstream of its own, whose TLS session is taken up
//! again. No limits, no record, no HTTP/2, no care for what is malformed: not a proxy for use.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use bytes::BytesMut;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_ecdsa_type};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

use crate::authority::{Authority, Sessions, client as client_config};

/// Room for one read.
const READ: usize = 16 * 1024;

/// Serves until the process ends. Its authority is written where the load can read it.
pub(crate) async fn serve(address: SocketAddr, roots: &Path, folder: &Path) -> Result<()> {
    let authority = Authority::new("the least")?;
    authority.write(folder, "minimal")?;
    let acceptor = TlsAcceptor::from(Arc::new(server_config(authority)?));
    let proxy = Arc::new(Minimal {
        hosts: HashSet::from(["rsa.test".to_owned(), "ecdsa.test".to_owned()]),
        config: client_config(roots, &[b"http/1.1"], Sessions::Resumed)?,
    });
    let listener = TcpListener::bind(address).await?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, proxy) = (acceptor.clone(), Arc::clone(&proxy));
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            proxy.carry(acceptor.accept(stream).await?).await
        });
    }
}

/// What every connection has in common.
struct Minimal {
    hosts: HashSet<String>,
    config: Arc<ClientConfig>,
}

type Upstream = client::TlsStream<TcpStream>;

impl Minimal {
    /// One client connection.
    async fn carry(&self, mut client: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
        let (mut asked, mut told) = (BytesMut::new(), BytesMut::new());
        let mut upstream: Option<(String, Upstream)> = None;
        while let Some(end) = head(&mut client, &mut asked).await? {
            let request = asked.split_to(end);
            let host = field(&request, "host").context("no host")?;
            ensure!(self.permits(&host), "no rule");
            if upstream.as_ref().is_none_or(|(other, _)| *other != host) {
                upstream = Some((host.clone(), self.dial(&host).await?));
            }
            let (_, upstream) = upstream.as_mut().context("just dialled")?;
            upstream.write_all(&request).await?;
            let body = field(&request, "content-length").map_or(Ok(0), |text| text.parse())?;
            relay(&mut client, upstream, &mut asked, body).await?;
            let end = head(upstream, &mut told).await?.context("no answer")?;
            let answer = told.split_to(end);
            client.write_all(&answer).await?;
            match field(&answer, "content-length") {
                Some(length) => relay(upstream, &mut client, &mut told, length.parse()?).await?,
                None => return relay(upstream, &mut client, &mut told, u64::MAX).await,
            }
            client.flush().await?;
        }
        Ok(())
    }

    /// Whether the host or a domain above it is in the table.
    fn permits(&self, host: &str) -> bool {
        let ends = host.match_indices('.').map(|(at, _)| host.get(at + 1..).unwrap_or_default());
        std::iter::once(host).chain(ends).any(|end| self.hosts.contains(end))
    }

    /// Connects to a host.
    async fn dial(&self, host: &str) -> Result<Upstream> {
        let address = lookup_host((host, 443)).await?.next().context("no address")?;
        let stream = connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned())?;
        Ok(TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await?)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is no part of boundary")]
async fn connect(address: SocketAddr) -> Result<TcpStream> {
    Ok(TcpStream::connect(address).await?)
}

/// Reads until a head is whole; where it ends, or nothing at the end of the stream.
async fn head(
    stream: &mut (impl AsyncRead + Unpin),
    heard: &mut BytesMut,
) -> Result<Option<usize>> {
    loop {
        if let Some(at) = heard.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(Some(at + 4));
        }
        heard.reserve(4096);
        if stream.read_buf(heard).await? == 0 {
            return Ok(None);
        }
    }
}

/// The value of a field.
fn field(head: &[u8], wanted: &str) -> Option<String> {
    std::str::from_utf8(head).ok()?.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
    })
}

/// Passes so many bytes on, those first that were heard already.
async fn relay(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    heard: &mut BytesMut,
    mut left: u64,
) -> Result<()> {
    while left > 0 {
        if heard.is_empty() {
            heard.reserve(READ);
            ensure!(from.read_buf(heard).await? > 0, "closed within a body");
        }
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(heard.len());
        to.write_all(&heard.split_to(here)).await?;
        left -= here as u64;
    }
    Ok(())
}

/// Answers as every host, AES-128-GCM first.
fn server_config(authority: Authority) -> Result<ServerConfig> {
    let mut provider = default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128_GCM"));
    let keys = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let private = PrivateKeyDer::try_from(keys.serialize_der())
        .map_err(|why| anyhow::anyhow!("a key of our own: {why}"))?;
    let signer = any_ecdsa_type(&private)?;
    let mint = Mint { authority, keys, signer, leaves: Mutex::default() };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(mint));
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Mints leaves for the names that are asked for.
struct Mint {
    authority: Authority,
    keys: KeyPair,
    signer: Arc<dyn SigningKey>,
    leaves: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl ResolvesServerCert for Mint {
    fn resolve(&self, greeting: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = greeting.server_name()?;
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(host) {
            return Some(Arc::clone(leaf));
        }
        let leaf = self.authority.leaf(&[host], &self.keys).ok()?;
        let leaf = Arc::new(CertifiedKey::new(vec![leaf], Arc::clone(&self.signer)));
        leaves.insert(host.to_owned(), Arc::clone(&leaf));
        Some(leaf)
    }
}

impl std::fmt::Debug for Mint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mint").finish_non_exhaustive()
    }
}
