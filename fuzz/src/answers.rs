//! An origin that answers whatever it is told to, and a strict reader of what arrives of that.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use boundary::audit::Door;
use boundary::proxy::fuzzing::Scene;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::{RULES, runtime};

/// A proxy before an origin that says what it is told, and hangs up.
pub struct Oracle {
    scene: Scene,
    next: Arc<Mutex<Vec<u8>>>,
}

/// An answer as a client read it.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// What is said beside it.
    pub reason: String,
    /// Its fields, in small letters and in the order of the alphabet, but for those between two
    /// neighbours.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Its content.
    pub body: Vec<u8>,
    /// Whether it came to its end.
    pub is_whole: bool,
}

impl Oracle {
    /// Opens it.
    pub fn open() -> Self {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a listener");
        let target = listener.local_addr().expect("an address");
        let next = Arc::<Mutex<Vec<u8>>>::default();
        runtime.spawn(serve(listener, Arc::clone(&next)));
        Self { scene: Scene::open(runtime, target, &RULES), next }
    }

    /// What a client gets where the origin answers so; with a field more, which is as good as any
    /// but one for which the proxy takes another way.
    pub fn ask(&self, answer: &[u8], method: &str, more: &str) -> Vec<u8> {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = answer.to_vec();
        let host: SocketAddr = self.scene.target();
        let said = format!("{method} /a/ HTTP/1.1\r\nHost: {host}\r\n{more}\r\n");
        self.scene.say(Door::Redirect, said.as_bytes())
    }
}

/// Answers every connection's first request.
async fn serve(listener: TcpListener, next: Arc<Mutex<Vec<u8>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let answer = next.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tokio::spawn(answered(stream, answer));
    }
}

/// Waits for the end of a head, says the answer, and hangs up in order.
async fn answered(mut stream: TcpStream, answer: Vec<u8>) -> Option<()> {
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n") {
        stream.read_buf(&mut heard).await.ok().filter(|read| *read > 0)?;
    }
    stream.write_all(&answer).await.ok()?;
    stream.shutdown().await.ok()?;
    heard.clear();
    while stream.read_buf(&mut heard).await.ok()? > 0 {
        heard.clear();
    }
    Some(())
}

/// Reads an answer strictly. Panics where no client could read it.
pub fn read(bytes: &[u8], is_head: bool) -> Option<Answer> {
    if bytes.is_empty() {
        return None;
    }
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(bytes);
    let Ok(httparse::Status::Complete(length)) = parsed else {
        panic!("{parsed:?}: {}", String::from_utf8_lossy(bytes));
    };
    let status = response.code.expect("a status");
    let reason = response.reason.expect("a reason, if an empty one").to_owned();
    let rest = &bytes[length..];
    if (100..200).contains(&status) && status != 101 {
        return read(rest, is_head);
    }
    let all = |name: &str| {
        let named = response.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value.to_vec()).collect::<Vec<_>>()
    };
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    let (body, is_whole) = match (&lengths[..], &codings[..]) {
        _ if is_head || status == 204 || status == 304 => (Vec::new(), rest.is_empty()),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => chunks(rest),
        ([length], []) => {
            let length = str::from_utf8(length).expect("digits").parse().expect("a length");
            assert!(rest.len() <= length, "more than was announced");
            (rest.to_vec(), rest.len() == length)
        }
        ([], []) => (rest.to_vec(), true),
        other => panic!("two lengths: {other:?}"),
    };
    let between = ["connection", "keep-alive", "transfer-encoding"];
    // Without content a length is a word about another answer, which may be left out (RFC 9110 §8.6).
    let is_void = is_head || status == 204 || status == 304;
    let mut fields: Vec<(String, Vec<u8>)> = response
        .headers
        .iter()
        .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()))
        .map(
            |(name, value)| {
                if name == "content-length" { (name, number(value)) } else { (name, value) }
            },
        )
        .filter(|(name, _)| !between.contains(&&**name) && !(is_void && name == "content-length"))
        .collect();
    fields.sort();
    Some(Answer { status, reason, fields, body, is_whole })
}

/// A length without the zeros that may stand before it (RFC 9110 §8.6): any digits are one.
fn number(digits: Vec<u8>) -> Vec<u8> {
    assert!(!digits.is_empty() && digits.iter().all(u8::is_ascii_digit), "{digits:?} is no length");
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    digits[zeros.min(digits.len() - 1)..].to_vec()
}

/// Reads chunks, and whether the last one came.
fn chunks(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|end| end == b"\r\n") {
        // An extension may be anything.
        let size = bytes[..end].split(|byte| *byte == b';').next().unwrap_or_default();
        let size = str::from_utf8(size).expect("text").trim_end();
        let size = usize::from_str_radix(size, 16).expect("a size");
        let rest = &bytes[end + 2..];
        if size == 0 {
            let is_whole = rest == b"\r\n" || rest.ends_with(b"\r\n\r\n");
            return (body, is_whole);
        }
        let Some((chunk, rest)) = rest.split_at_checked(size) else {
            body.extend_from_slice(rest);
            return (body, false);
        };
        body.extend_from_slice(chunk);
        let Some(rest) = rest.strip_prefix(b"\r\n") else {
            assert!(b"\r\n".starts_with(rest), "behind a chunk {rest:?}");
            return (body, false);
        };
        bytes = rest;
    }
    (body, false)
}
