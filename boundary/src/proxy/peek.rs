//! First bytes, looked at without consuming them: TLS, HTTP of either version, or neither.
//!
//! *Standing*: [`super::Proxy::carry`] asks before it chooses how to go on. *Never*: guesses. What has no
//! name here is [`Peeked::Unclear`], and that is refused.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

/// Room for a usual request head or TLS greeting in one read.
const FIRST_READ: usize = 4096;
/// The longest TLS greeting that is read, twice what post-quantum key shares make of one.
const LONGEST_GREETING: usize = 64 * 1024;
/// The longest method that is taken for one.
const LONGEST_METHOD: usize = 32;
/// What an HTTP/2 client says first (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
/// The content type of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client's first bytes are.
pub(super) enum Peeked<S> {
    /// The client left before the first byte: nothing was asked.
    Closed,
    /// An HTTP/1 request begins.
    Http(Rewind<S>),
    /// HTTP/2 begins, of which the client knew beforehand that it is spoken here.
    Http2(Rewind<S>),
    /// A whole TLS greeting.
    Tls(Box<Greeting>, S),
    /// Anything else, or nothing in time; the stream is still open.
    Unclear(Rewind<S>),
}

/// A TLS client's greeting, parsed, with the bytes it came in.
pub(super) struct Greeting {
    /// The handshake, to be continued by us.
    pub(super) accepted: Accepted,
    /// The bytes, to be passed on if it is not.
    pub(super) seen: Bytes,
}

/// Looks at a stream's first bytes. A client may be silent for `silence`; once it has begun it has
/// `whole` to finish the part that tells what it is.
pub(super) async fn peek<S>(mut stream: S, silence: Duration, whole: Duration) -> Peeked<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut seen = BytesMut::with_capacity(FIRST_READ);
    match timeout(silence, stream.read_buf(&mut seen)).await {
        Ok(Ok(0) | Err(_)) => return Peeked::Closed,
        Ok(Ok(_)) => {}
        Err(_) => return Peeked::Unclear(Rewind::new(Bytes::new(), stream)),
    }
    if seen.first() == Some(&TLS_HANDSHAKE) {
        return match timeout(whole, greeting(&mut stream, &mut seen)).await {
            Ok(Some(accepted)) => {
                Peeked::Tls(Box::new(Greeting { accepted, seen: seen.freeze() }), stream)
            }
            Ok(None) | Err(_) => Peeked::Unclear(Rewind::new(seen.freeze(), stream)),
        };
    }
    match timeout(whole, speech(&mut stream, &mut seen)).await {
        Ok(Some(Speech::Http1)) => Peeked::Http(Rewind::new(seen.freeze(), stream)),
        Ok(Some(Speech::Http2)) => Peeked::Http2(Rewind::new(seen.freeze(), stream)),
        Ok(None) | Err(_) => Peeked::Unclear(Rewind::new(seen.freeze(), stream)),
    }
}

/// Reads until the TLS greeting is whole. A client whose greeting is broken gets the alert for it.
async fn greeting<S>(stream: &mut S, seen: &mut BytesMut) -> Option<Accepted>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut acceptor = Acceptor::default();
    let mut fed = 0;
    loop {
        let mut fresh = seen.get(fed..)?;
        while !fresh.is_empty() {
            acceptor.read_tls(&mut fresh).ok().filter(|read| *read > 0)?;
        }
        fed = seen.len();
        match acceptor.accept() {
            Ok(Some(accepted)) => return Some(accepted),
            Ok(None) if fed > LONGEST_GREETING => return None,
            Ok(None) => stream.read_buf(seen).await.ok().filter(|read| *read > 0)?,
            Err((_, mut alert)) => {
                let mut bytes = Vec::new();
                alert.write_all(&mut bytes).ok()?;
                stream.write_all(&bytes).await.ok()?;
                return None;
            }
        };
    }
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Reads until it is certain whether HTTP begins, and which.
async fn speech<S: AsyncRead + Unpin>(stream: &mut S, seen: &mut BytesMut) -> Option<Speech> {
    loop {
        if HTTP2_PREFACE.starts_with(seen.get(..HTTP2_PREFACE.len()).unwrap_or(seen)) {
            if seen.len() >= HTTP2_PREFACE.len() {
                return Some(Speech::Http2);
            }
        } else if let Some(certain) = begins_http1(seen) {
            return certain.then_some(Speech::Http1);
        }
        match stream.read_buf(seen).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// Whether bytes begin an HTTP/1 request; `None` when there are too few to tell.
///
/// A method and the first byte of a request target: `SSH-2.0-…` has no space, `EHLO host` no
/// target that an HTTP client writes. What follows the first line is judged where it is parsed.
fn begins_http1(bytes: &[u8]) -> Option<bool> {
    // One empty line before a request is forgiven (RFC 9112 §2.2).
    let bytes = match bytes {
        [b'\r'] => return None,
        [b'\r', b'\n', rest @ ..] => rest,
        _ => bytes,
    };
    let Some(end) = bytes.iter().take(LONGEST_METHOD + 1).position(|byte| *byte == b' ') else {
        let plausible = bytes.len() <= LONGEST_METHOD && bytes.iter().all(|byte| is_token(*byte));
        return if plausible { None } else { Some(false) };
    };
    let (method, rest) = bytes.split_at_checked(end)?;
    let target = rest.get(1)?;
    let method_is_one = !method.is_empty() && method.iter().all(|byte| is_token(*byte));
    let known = matches!(
        method,
        b"GET" | b"HEAD" | b"POST" | b"PUT" | b"PATCH" | b"DELETE" | b"OPTIONS" | b"CONNECT"
    );
    Some(method_is_one && (known || matches!(target, b'/' | b'*' | b'h' | b'H')))
}

/// RFC 9110 §5.6.2. Every byte of every field's name is asked about: a word of 128 bits says it.
pub(super) fn is_token(byte: u8) -> bool {
    byte < 128 && TOKEN >> byte & 1 == 1
}

/// Which bytes a token may have, a bit each.
const TOKEN: u128 = {
    let (mut bits, mut byte) = (0_u128, 0_u8);
    while byte < 128 {
        let is_mark = matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
        if byte.is_ascii_alphanumeric() || is_mark {
            bits |= 1 << byte;
        }
        byte += 1;
    }
    bits
};

/// A stream whose first bytes were read already: they come again.
#[derive(Debug)]
pub(super) struct Rewind<S> {
    seen: Bytes,
    stream: S,
}

impl<S> Rewind<S> {
    /// The stream as if `seen` had not been read.
    pub(super) fn new(seen: Bytes, stream: S) -> Self {
        Self { seen, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewind<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.seen.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.seen.len().min(buf.remaining());
        let again = self.seen.split_to(count);
        buf.put_slice(again.chunk());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewind<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// What `bytes` followed by silence are taken for.
    async fn peeked(bytes: &[u8]) -> &'static str {
        let (mut client, server) = duplex(LONGEST_GREETING * 2);
        client.write_all(bytes).await.unwrap();
        let wait = Duration::from_millis(50);
        match peek(server, wait, wait).await {
            Peeked::Closed => "closed",
            Peeked::Http(_) => "http",
            Peeked::Http2(_) => "http2",
            Peeked::Tls(..) => "tls",
            Peeked::Unclear(_) => "unclear",
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_of_any_method_is_http() {
        for bytes in ["GET / HTTP/1.1", "PROPFIND /a", "OPTIONS *", "get http://x/", "CONNECT a:1"]
        {
            assert_eq!(peeked(bytes.as_bytes()).await, "http", "{bytes}");
        }
        assert_eq!(peeked(b"\r\nGET / HTTP/1.1").await, "http");
    }

    #[tokio::test(start_paused = true)]
    async fn the_preface_of_http2_is_known_when_it_is_whole() {
        assert_eq!(peeked(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await, "http2");
        assert_eq!(peeked(b"PRI * HTTP/2.0\r\n").await, "http2");
        assert_eq!(peeked(b"PRI * HTTP/2.0\r").await, "unclear");
    }

    #[tokio::test(start_paused = true)]
    async fn other_protocols_are_unclear() {
        let others: [&[u8]; 8] = [
            b"SSH-2.0-OpenSSH_9.9\r\n",
            b"EHLO mail.example\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"\x15\x03\x01\x00\x02\x02\x28",
            b" / HTTP/1.1\r\n",
            b"\n\n\n",
            b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ];
        for bytes in others {
            assert_eq!(peeked(bytes).await, "unclear", "{bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_unclear_and_a_gone_one_is_nothing() {
        assert_eq!(peeked(b"").await, "unclear");
        assert_eq!(peeked(b"GE").await, "unclear");
        let (client, server) = duplex(64);
        drop(client);
        let wait = Duration::from_secs(1);
        assert!(matches!(peek(server, wait, wait).await, Peeked::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_greeting_gets_an_alert() {
        let (mut client, server) = duplex(4096);
        client.write_all(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00").await.unwrap();
        let wait = Duration::from_secs(1);
        assert!(matches!(peek(server, wait, wait).await, Peeked::Unclear(_)));
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.first(), Some(&0x15));
    }

    #[tokio::test]
    async fn what_was_looked_at_is_read_again() {
        let (mut client, server) = duplex(64);
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        drop(client);
        let wait = Duration::from_secs(1);
        let Peeked::Http(mut stream) = peek(server, wait, wait).await else { panic!("not http") };
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "GET / HTTP/1.1\r\n");
    }
}
