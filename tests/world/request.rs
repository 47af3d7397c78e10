//! A request as an origin saw it, to the byte.

use std::io::{self, Read};
use std::net::SocketAddr;

/// What is known of a connection before its first request.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// The address that was dialled.
    pub(crate) local: SocketAddr,
    /// The connection's number in its world.
    pub(crate) number: usize,
    /// The name or address that TLS was spoken for; none without TLS.
    pub(crate) sni: Option<String>,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// On which connection.
    pub(crate) connection: Head,
    /// The method.
    pub(crate) method: String,
    /// The request target, as sent.
    pub(crate) target: String,
    /// Names as sent, and values.
    pub(crate) headers: Vec<(String, String)>,
    /// The content, without its framing.
    pub(crate) body: Vec<u8>,
    /// Every byte of it, framing and all.
    pub(crate) bytes: Vec<u8>,
}

impl Request {
    /// The value of a header, whatever the case of its name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Reads the next one; none when the client is done. `rest` keeps what came with it too early.
    pub(crate) fn read(
        stream: &mut impl Read,
        rest: &mut Vec<u8>,
        connection: &Head,
    ) -> io::Result<Option<Self>> {
        let end = loop {
            if let Some(end) = find(rest, b"\r\n\r\n") {
                break end + 4;
            }
            if more(stream, rest)? == 0 {
                return Ok(None);
            }
        };
        let text = String::from_utf8_lossy(&rest[..end]).into_owned();
        let mut lines = text.lines();
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut request = Self {
            connection: connection.clone(),
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            headers,
            body: Vec::new(),
            bytes: Vec::new(),
        };
        let length = request.read_body(stream, rest, end)?;
        request.bytes = rest.drain(..end + length).collect();
        Ok(Some(request))
    }

    /// Reads the content that follows the head and says how many bytes it took on the wire.
    fn read_body(
        &mut self,
        stream: &mut impl Read,
        rest: &mut Vec<u8>,
        from: usize,
    ) -> io::Result<usize> {
        if self.header("transfer-encoding").is_some() {
            return self.read_chunks(stream, rest, from);
        }
        let length = self.header("content-length").and_then(|text| text.parse().ok());
        let length: usize = length.unwrap_or(0);
        fill(stream, rest, from + length)?;
        self.body = rest[from..from + length].to_vec();
        Ok(length)
    }

    /// Reads chunks up to the last, and the trailer lines after it.
    fn read_chunks(
        &mut self,
        stream: &mut impl Read,
        rest: &mut Vec<u8>,
        from: usize,
    ) -> io::Result<usize> {
        let mut place = from;
        loop {
            let line = line(stream, rest, place)?;
            let text = String::from_utf8_lossy(&rest[place..line]).into_owned();
            place = line + 2;
            let size = text.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                break;
            }
            fill(stream, rest, place + size + 2)?;
            self.body.extend(&rest[place..place + size]);
            place += size + 2;
        }
        loop {
            let end = line(stream, rest, place)?;
            let empty = end == place;
            place = end + 2;
            if empty {
                return Ok(place - from);
            }
        }
    }
}

/// Where a line that starts at `place` ends, once all of it is there.
fn line(stream: &mut impl Read, rest: &mut Vec<u8>, place: usize) -> io::Result<usize> {
    loop {
        if let Some(length) = find(&rest[place..], b"\r\n") {
            return Ok(place + length);
        }
        fill(stream, rest, rest.len() + 1)?;
    }
}

/// Reads until there are at least so many bytes.
fn fill(stream: &mut impl Read, rest: &mut Vec<u8>, length: usize) -> io::Result<()> {
    while rest.len() < length {
        if more(stream, rest)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Reads once; nought at the end.
fn more(stream: &mut impl Read, rest: &mut Vec<u8>) -> io::Result<usize> {
    let mut bytes = [0; 16384];
    let length = stream.read(&mut bytes)?;
    rest.extend(&bytes[..length]);
    Ok(length)
}

/// The place of a pattern.
fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}
