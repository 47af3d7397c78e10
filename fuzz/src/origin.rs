//! An origin that takes HTTP/1 strictly: it reads heads by another parser than boundary's front,
//! and bodies by RFC 9112 without any forgiveness.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A request as the origin read it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Its target.
    pub target: String,
    /// The one `Host`.
    pub host: String,
}

/// What the origin heard: requests, or bytes that are none.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Vec<Result<Request, String>>>);

impl Heard {
    /// What came since it was last asked.
    pub fn take(&self) -> Vec<Result<Request, String>> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, heard: Result<Request, String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(heard);
    }
}

/// Serves every connection.
pub async fn serve(listener: TcpListener, heard: Arc<Heard>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, Arc::clone(&heard)));
    }
}

/// Answers request after request.
async fn converse(mut stream: TcpStream, heard: Arc<Heard>) {
    let mut bytes = Vec::new();
    loop {
        let Some((length, request, body)) = head(&mut stream, &mut bytes, &heard).await else {
            return;
        };
        bytes.drain(..length);
        heard.note(Ok(request));
        let whole = match body {
            Body::Length(length) => exactly(&mut stream, &mut bytes, length).await.is_some(),
            Body::Chunked => chunks(&mut stream, &mut bytes, &heard).await.is_some(),
        };
        if !whole
            || stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.is_err()
        {
            return;
        }
    }
}

/// How long a body is.
enum Body {
    Length(usize),
    Chunked,
}

/// Reads a head. None where the proxy left before it was whole; what is no head is noted.
async fn head(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    heard: &Heard,
) -> Option<(usize, Request, Body)> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 256];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => {
                let read = strictly(&request);
                if read.is_none() {
                    heard.note(Err(String::from_utf8_lossy(bytes).into_owned()));
                }
                return read.map(|(request, body)| (length, request, body));
            }
            Ok(httparse::Status::Partial) => {}
            Err(_) => {
                heard.note(Err(String::from_utf8_lossy(bytes).into_owned()));
                return None;
            }
        }
        more(stream, bytes).await?;
    }
}

/// A request with one host and one length, or none.
fn strictly(request: &httparse::Request<'_, '_>) -> Option<(Request, Body)> {
    let all = |name: &str| {
        let named = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| String::from_utf8_lossy(field.value).into_owned()).collect::<Vec<_>>()
    };
    let [host] = <[String; 1]>::try_from(all("host")).ok()?;
    let body = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Body::Length(0),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Body::Length(length.parse().ok()?)
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Body::Chunked,
        _ => return None,
    };
    let (method, target) = (request.method?.to_owned(), request.path?.to_owned());
    (request.version == Some(1)).then_some((Request { method, target, host }, body))
}

/// Reads a body of a length away.
async fn exactly(stream: &mut TcpStream, bytes: &mut Vec<u8>, length: usize) -> Option<()> {
    while bytes.len() < length {
        more(stream, bytes).await?;
    }
    bytes.drain(..length);
    Some(())
}

/// Reads chunks away, and trailers.
async fn chunks(stream: &mut TcpStream, bytes: &mut Vec<u8>, heard: &Heard) -> Option<()> {
    loop {
        let size = line(stream, bytes).await?;
        let Some(size) =
            size.split(';').next().and_then(|size| usize::from_str_radix(size, 16).ok())
        else {
            heard.note(Err(format!("chunk size {size:?}")));
            return None;
        };
        if size == 0 {
            while !line(stream, bytes).await?.is_empty() {}
            return Some(());
        }
        exactly(stream, bytes, size).await?;
        let end = line(stream, bytes).await?;
        if !end.is_empty() {
            heard.note(Err(format!("after a chunk {end:?}")));
            return None;
        }
    }
}

/// Reads one line, without its end.
async fn line(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = bytes.windows(2).position(|end| end == b"\r\n") {
            let line: Vec<u8> = bytes.drain(..end + 2).collect();
            return Some(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        more(stream, bytes).await?;
    }
}

/// Reads more. None at the end.
async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    stream.read_buf(bytes).await.ok().filter(|read| *read > 0).map(drop)
}
