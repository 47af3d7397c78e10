//! One connection of a load, and HTTP/1.1 on it, written by hand for the same reason as the
//! origin's: what the client costs is in every row.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, BytesMut};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::is_small;

/// How a load gets to a host.
#[derive(Debug, Clone, Default)]
pub(crate) enum Way {
    /// Where its name leads.
    #[default]
    Name,
    /// To this address, whatever the name.
    At(SocketAddr),
    /// Through the proxy at this address, by CONNECT.
    Through(SocketAddr),
}

/// Connects to a host, TLS included.
pub(super) async fn dial(
    way: &Way,
    host: &str,
    config: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>> {
    let address = match way {
        Way::At(address) | Way::Through(address) => *address,
        Way::Name => lookup_host((host, 443)).await?.next().context("the name has no address")?,
    };
    let mut stream = connect(address).await?;
    stream.set_nodelay(true)?;
    if matches!(way, Way::Through(_)) {
        tunnel(&mut stream, host).await?;
    }
    let name = ServerName::try_from(host.to_owned())?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
    let protocol = stream.get_ref().1.alpn_protocol();
    if config.alpn_protocols.iter().any(|wanted| wanted == b"h2") {
        ensure!(protocol == Some(b"h2"), "no HTTP/2");
    }
    Ok(stream)
}

#[expect(clippy::disallowed_methods, reason = "this is no part of boundary")]
async fn connect(address: SocketAddr) -> Result<TcpStream> {
    TcpStream::connect(address).await.with_context(|| format!("{address} takes no connection"))
}

/// Asks a proxy for a tunnel.
async fn tunnel(stream: &mut TcpStream, host: &str) -> Result<()> {
    let question = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n");
    stream.write_all(question.as_bytes()).await?;
    let mut heard = BytesMut::new();
    while !heard.ends_with(b"\r\n\r\n") {
        ensure!(stream.read_buf(&mut heard).await? > 0, "the proxy closed");
    }
    let answer = String::from_utf8_lossy(&heard);
    ensure!(answer.split(' ').nth(1) == Some("200"), "no tunnel: {}", answer.trim_end());
    Ok(())
}

/// A connection that speaks HTTP/1.1.
pub(super) struct Line {
    stream: TlsStream<TcpStream>,
    heard: BytesMut,
}

impl Line {
    /// Speaks HTTP/1.1 on a stream.
    pub(super) fn new(stream: TlsStream<TcpStream>) -> Self {
        Self { stream, heard: BytesMut::with_capacity(512) }
    }

    /// Asks, and reads the whole answer; how long its content was.
    pub(super) async fn ask(&mut self, host: &str, path: &str) -> Result<u64> {
        self.send(host, path).await?;
        let length = loop {
            if let Some(length) = self.take_head()? {
                break length;
            }
            ensure!(self.stream.read_buf(&mut self.heard).await? > 0, "closed within a head");
        };
        ensure!(path != "/" || is_small(length), "an answer of {length} bytes");
        let mut left = length;
        loop {
            let here = left.min(self.heard.len() as u64);
            self.heard.advance(usize::try_from(here)?);
            left -= here;
            if left == 0 {
                return Ok(length);
            }
            if self.heard.capacity() < 64 * 1024 {
                self.heard.reserve(64 * 1024);
            }
            ensure!(self.stream.read_buf(&mut self.heard).await? > 0, "closed within a body");
        }
    }

    /// Asks, and reads until a text has come.
    pub(super) async fn await_text(&mut self, host: &str, path: &str, text: &[u8]) -> Result<()> {
        self.send(host, path).await?;
        while !self.heard.windows(text.len()).any(|part| part == text) {
            ensure!(self.stream.read_buf(&mut self.heard).await? > 0, "closed before the text");
        }
        Ok(())
    }

    /// Reads until an event has come; when it was sent.
    pub(super) async fn event(&mut self, begin: &str) -> Result<u64> {
        loop {
            let text = String::from_utf8_lossy(&self.heard);
            let whole = text.split_once(begin).and_then(|(_, rest)| rest.split_once("\n\n"));
            if let Some((sent, _)) = whole {
                return sent.parse().context("when an event was sent");
            }
            ensure!(self.stream.read_buf(&mut self.heard).await? > 0, "closed before the event");
        }
    }

    pub(super) async fn send(&mut self, host: &str, path: &str) -> Result<()> {
        let ask = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n");
        Ok(self.stream.write_all(ask.as_bytes()).await?)
    }

    /// Takes the head off what was heard, if it is whole; the length that it announces.
    fn take_head(&mut self) -> Result<Option<u64>> {
        let Some(end) = self.heard.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = self.heard.split_to(end + 4);
        let head = std::str::from_utf8(&head)?;
        if head.split(' ').nth(1) != Some("200") {
            let content = String::from_utf8_lossy(&self.heard);
            bail!("answered {}: {}", head.lines().next().unwrap_or_default(), content.trim_end());
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        Ok(Some(length.context("an answer without a length")?))
    }
}
