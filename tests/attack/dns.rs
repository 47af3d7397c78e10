//! One DNS question to any server, by hand, over UDP or TCP.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Arguments, usage};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// `dns udp|tcp SERVER NAME TYPE`: the response code, the addresses, and who answered.
#[expect(
    clippy::disallowed_methods,
    reason = "the rule keeps boundary from dialling; this is the program inside the jail"
)]
pub(crate) fn ask(arguments: &Arguments) -> io::Result<Value> {
    let server = SocketAddr::new(arguments.value::<IpAddr>(1)?, 53);
    let question = question(arguments.text(2)?, kind(arguments.text(3)?)?);
    let (answer, from) = match arguments.text(0)? {
        "udp" => {
            let any: IpAddr = match server {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send_to(&question, server)?;
            let mut answer = vec![0; 4096];
            let (length, from) = socket.recv_from(&mut answer)?;
            answer.truncate(length);
            (answer, from)
        }
        "tcp" => {
            let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let length = u16::try_from(question.len()).unwrap_or_default();
            stream.write_all(&[&length.to_be_bytes(), question.as_slice()].concat())?;
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut answer = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut answer)?;
            (answer, stream.peer_addr()?)
        }
        _ => return Err(usage("udp or tcp")),
    };
    Ok(read(&answer, question.len(), from))
}

/// The number of a record type.
fn kind(name: &str) -> io::Result<u16> {
    Ok(match name {
        "A" => 1,
        "NS" => 2,
        "PTR" => 12,
        "TXT" => 16,
        "AAAA" => 28,
        "SRV" => 33,
        "HTTPS" => 65,
        "ANY" => 255,
        other => other.parse().ok().ok_or_else(|| usage("no such record type"))?,
    })
}

/// A query for one name, recursion desired.
fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = vec![0x42, 0x42, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(1_u16.to_be_bytes());
    bytes
}

/// What an answer holds: its code, its addresses, the number of its answers.
fn read(answer: &[u8], question: usize, from: SocketAddr) -> Value {
    let code = answer.get(3).map(|flags| flags & 15);
    let count = word(answer, 6);
    let mut addresses = Vec::new();
    let mut place = question;
    for _ in 0..count {
        let Some(record) = answer.get(place..).map(past_name) else { break };
        let length = usize::from(word(record, 8));
        let data = record.get(10..10 + length).unwrap_or_default();
        match (word(record, 0), data.len()) {
            (1, 4) => addresses.extend(<[u8; 4]>::try_from(data).map(IpAddr::from)),
            (28, 16) => addresses.extend(<[u8; 16]>::try_from(data).map(IpAddr::from)),
            _ => {}
        }
        place = answer.len() - record.len() + 10 + length;
    }
    json!({ "code": code, "answers": count, "addresses": addresses, "from": from })
}

/// The bytes after a name, compressed or not.
fn past_name(mut record: &[u8]) -> &[u8] {
    loop {
        match record {
            [0, rest @ ..] | [0xc0..=0xff, _, rest @ ..] => return rest,
            [length, rest @ ..] => record = rest.get(usize::from(*length)..).unwrap_or_default(),
            [] => return record,
        }
    }
}

/// The two bytes at a place as a number; nought where there are none.
fn word(bytes: &[u8], place: usize) -> u16 {
    match bytes.get(place..place + 2) {
        Some([high, low]) => u16::from_be_bytes([*high, *low]),
        _ => 0,
    }
}
