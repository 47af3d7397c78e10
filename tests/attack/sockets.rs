//! Sockets of every kind towards an address, through every call that can send.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Arguments, name, sys, usage};

/// How long a connection may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a packet carries when the caller named nothing.
const MARK: &[u8] = b"leaked";

/// The address at two places of the arguments.
fn target(arguments: &Arguments, place: usize) -> io::Result<SocketAddr> {
    let ip: IpAddr = arguments.value(place)?;
    Ok(SocketAddr::new(ip, arguments.value(place + 1)?))
}

/// The family that an address is written in; a mapped one is a v6 one.
pub(crate) fn family(address: SocketAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// Sends or only listens, as `what` says, and tells what came back.
///
/// `http:HOST` sends a request for that host, `send:TEXT` the text, `read` nothing, and one reply is
/// read; `all:TEXT` sends the text and reads until the other side closes.
fn talk(mut stream: TcpStream, what: Option<&str>) -> io::Result<Value> {
    let peer = stream.peer_addr()?;
    let Some(what) = what else { return Ok(json!({ "peer": peer })) };
    let (how, text) = what.split_once(':').unwrap_or((what, ""));
    let text = match how {
        "http" => format!("GET / HTTP/1.1\r\nHost: {text}\r\nConnection: close\r\n\r\n"),
        "send" | "all" | "read" => text.to_owned(),
        _ => return Err(usage("not http:HOST, send:TEXT, all:TEXT or read")),
    };
    stream.write_all(text.as_bytes())?;
    let mut reply = vec![0; 4096];
    if how == "all" {
        reply.clear();
        stream.read_to_end(&mut reply)?;
    } else {
        let length = stream.read(&mut reply)?;
        reply.truncate(length);
    }
    Ok(json!({ "peer": peer, "reply": String::from_utf8_lossy(&reply) }))
}

/// A connected stream of any protocol, with a deadline on everything.
fn stream(protocol: i32, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = sys::socket(family(address), libc::SOCK_STREAM, protocol)?;
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let socket = OwnedFd::from(stream);
    sys::connect(&socket, &sys::sockaddr(address))?;
    Ok(TcpStream::from(socket))
}

/// `tcp ADDRESS PORT [WHAT]`: connects, says where the kernel thinks it is connected, talks.
pub(crate) fn tcp(arguments: &Arguments) -> io::Result<Value> {
    talk(stream(libc::IPPROTO_TCP, target(arguments, 0)?)?, arguments.text(2).ok())
}

/// `mptcp ADDRESS PORT [WHAT]`.
pub(crate) fn mptcp(arguments: &Arguments) -> io::Result<Value> {
    talk(stream(libc::IPPROTO_MPTCP, target(arguments, 0)?)?, arguments.text(2).ok())
}

/// `fastopen ADDRESS PORT`: data in the same call that connects.
pub(crate) fn fastopen(arguments: &Arguments) -> io::Result<Value> {
    let address = target(arguments, 0)?;
    let socket = sys::socket(family(address), libc::SOCK_STREAM, 0)?;
    let sent = sys::send_to(&socket, MARK, libc::MSG_FASTOPEN, &sys::sockaddr(address))?;
    Ok(json!({ "sent": sent }))
}

/// `fastopen-connect ADDRESS PORT [WHAT]`: the connection waits for the first data, and takes it
/// along.
pub(crate) fn fastopen_connect(arguments: &Arguments) -> io::Result<Value> {
    let address = target(arguments, 0)?;
    let socket = sys::socket(family(address), libc::SOCK_STREAM, 0)?;
    let on = 1_i32.to_ne_bytes();
    sys::set_option(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, &on)?;
    sys::connect(&socket, &sys::sockaddr(address))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    talk(stream, arguments.text(2).ok())
}

/// `udp HOW ADDRESS PORT`: one datagram by the named call.
pub(crate) fn udp(arguments: &Arguments) -> io::Result<Value> {
    let address = target(arguments, 1)?;
    let socket = sys::socket(family(address), libc::SOCK_DGRAM, libc::IPPROTO_UDP)?;
    let mut bytes = sys::sockaddr(address);
    match arguments.text(0)? {
        "sendto" => sys::send_to(&socket, MARK, 0, &bytes).map(drop)?,
        "connect" => {
            sys::connect(&socket, &bytes)?;
            sys::send(&socket, MARK).map(drop)?;
        }
        "sendmsg" => sys::send_message(&socket, MARK, &mut bytes, &mut [])?,
        "sendmmsg" => sys::send_messages(&socket, MARK, &mut bytes)?,
        "unspec" => {
            // An AF_UNSPEC address that holds a v4 one: the kernel takes it for AF_INET.
            bytes.splice(0..2, [0, 0]);
            sys::send_to(&socket, MARK, 0, &bytes).map(drop)?;
        }
        "write" => {
            sys::connect(&socket, &bytes)?;
            File::from(socket).write_all(MARK)?;
        }
        "four-on-six" => {
            // A v4 address on a v6 socket: the kernel sends it as v4.
            let six = sys::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
            sys::send_to(&six, MARK, 0, &bytes).map(drop)?;
        }
        "from-inside" => {
            // Turned to a wildcard source first, so that no connect hook runs.
            sys::bind(&socket, &sys::sockaddr(any(address)))?;
            sys::send_to(&socket, MARK, 0, &bytes).map(drop)?;
        }
        _ => return Err(usage("no such way to send")),
    }
    Ok(json!({}))
}

/// The wildcard address of the same family.
fn any(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    }
}

/// `udplite ADDRESS PORT`: neither a connect nor a send hook sees one.
pub(crate) fn udplite(arguments: &Arguments) -> io::Result<Value> {
    let address = target(arguments, 0)?;
    let socket = sys::socket(family(address), libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE)?;
    sys::connect(&socket, &sys::sockaddr(address))?;
    sys::send(&socket, MARK)?;
    Ok(json!({}))
}

/// An echo request, ours by its payload.
fn echo(address: IpAddr) -> Vec<u8> {
    let kind = if address.is_ipv4() { 8 } else { 128 };
    let mut bytes = vec![kind, 0, 0, 0, 0, 1, 0, 1];
    bytes.extend(MARK);
    bytes
}

/// `icmp ADDRESS`: an echo request from a ping socket.
pub(crate) fn icmp(arguments: &Arguments) -> io::Result<Value> {
    ping(arguments, libc::SOCK_DGRAM)
}

/// `raw ADDRESS`: an echo request from a raw socket.
pub(crate) fn raw(arguments: &Arguments) -> io::Result<Value> {
    ping(arguments, libc::SOCK_RAW)
}

/// Sends one echo request from a socket of the kind.
fn ping(arguments: &Arguments, kind: i32) -> io::Result<Value> {
    let address = SocketAddr::new(arguments.value(0)?, 0);
    let protocol = if address.is_ipv4() { libc::IPPROTO_ICMP } else { libc::IPPROTO_ICMPV6 };
    let socket = sys::socket(family(address), kind, protocol)?;
    sys::send_to(&socket, &echo(address.ip()), 0, &sys::sockaddr(address))?;
    Ok(json!({}))
}

/// `packet INTERFACE_INDEX`: a frame of our own making.
pub(crate) fn packet(arguments: &Arguments) -> io::Result<Value> {
    frame(arguments.value(0)?)?;
    Ok(json!({}))
}

/// Sends a frame of our own making by an interface.
pub(crate) fn frame(index: i32) -> io::Result<()> {
    let socket = sys::socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0)?;
    let mut address = u16::try_from(libc::AF_PACKET).unwrap_or_default().to_ne_bytes().to_vec();
    address.extend(0x88b5_u16.to_be_bytes());
    address.extend(index.to_ne_bytes());
    address.extend([0, 0, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0]);
    sys::send_to(&socket, MARK, 0, &address).map(drop)
}

/// `socket FAMILY TYPE PROTOCOL [ADDRESS PORT]`: makes one, and connects it where asked.
pub(crate) fn plain(arguments: &Arguments) -> io::Result<Value> {
    let number = |place| {
        let text = arguments.text(place)?;
        name::number(text).ok_or_else(|| usage(&format!("no such family or type: {text}")))
    };
    let socket = sys::socket(number(0)?, number(1)?, number(2)?)?;
    if arguments.text(3).is_ok() {
        sys::connect(&socket, &sys::sockaddr(target(arguments, 3)?))?;
    }
    Ok(json!({}))
}

/// `pair ADDRESS`: a server and a client of the program itself.
pub(crate) fn pair(arguments: &Arguments) -> io::Result<Value> {
    let ip: IpAddr = arguments.value(0)?;
    let server = TcpListener::bind((ip, 0))?;
    let address = server.local_addr()?;
    let mut client = stream(libc::IPPROTO_TCP, address)?;
    let (mut accepted, from) = server.accept()?;
    client.write_all(b"ping")?;
    let mut bytes = [0; 4];
    accepted.read_exact(&mut bytes)?;
    accepted.write_all(b"pong")?;
    client.read_exact(&mut bytes)?;
    let same = client.peer_addr()? == address && client.local_addr()? == from;
    Ok(json!({ "reply": String::from_utf8_lossy(&bytes), "names_agree": same }))
}

/// `listen ADDRESS PORT`: says `listening` on a line of its own and serves one client.
pub(crate) fn listen(arguments: &Arguments) -> io::Result<Value> {
    let server = TcpListener::bind(target(arguments, 0)?)?;
    crate::say("listening");
    let (mut accepted, from) = server.accept()?;
    accepted.write_all(MARK)?;
    Ok(json!({ "from": from }))
}
