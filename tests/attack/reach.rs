//! Reaching round the walls: descriptors from elsewhere, foreign calls, other processes' memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixStream};

use serde_json::{Value, json};

use crate::{Arguments, sys, usage};

/// `unix PATH [HOW]`: connects to a socket of somebody else, or sends it a datagram by the named
/// call. A path that begins with `@` is an abstract address.
pub(crate) fn unix(arguments: &Arguments) -> io::Result<Value> {
    let path = arguments.text(0)?;
    let address = match path.strip_prefix('@') {
        Some(name) => UnixAddress::from_abstract_name(name)?,
        None => UnixAddress::from_pathname(path)?,
    };
    let mut bytes = sys::unix_sockaddr(path);
    let parcel = || UnixDatagram::unbound().map(OwnedFd::from);
    match arguments.text(1) {
        Err(_) => UnixStream::connect_addr(&address).map(drop)?,
        Ok("sendto") => sys::send_to(&parcel()?, b"leaked", 0, &bytes).map(drop)?,
        Ok("sendmsg") => sys::send_message(&parcel()?, b"leaked", &mut bytes, &mut [])?,
        Ok("sendmmsg") => sys::send_messages(&parcel()?, b"leaked", &mut bytes)?,
        Ok("connect") => {
            let socket = parcel()?;
            sys::connect(&socket, &bytes)?;
            sys::send(&socket, b"leaked").map(drop)?;
        }
        Ok(_) => return Err(usage("not sendto, sendmsg, sendmmsg or connect")),
    }
    Ok(json!({}))
}

/// `receive PATH`: takes a descriptor from whoever listens there, and writes to it.
pub(crate) fn receive(arguments: &Arguments) -> io::Result<Value> {
    let stranger = UnixStream::connect(arguments.text(0)?)?;
    let given = sys::receive_fd(&stranger.into())?;
    sys::send(&given, b"leaked")?;
    Ok(json!({}))
}

/// `open PATH`: opens a file or a device for writing.
pub(crate) fn open(arguments: &Arguments) -> io::Result<Value> {
    OpenOptions::new().write(true).open(arguments.text(0)?)?;
    Ok(json!({}))
}

/// `compat int80|x32`: makes a socket by a call of another architecture's.
pub(crate) fn compat(arguments: &Arguments) -> io::Result<Value> {
    let made = match arguments.text(0)? {
        "int80" => sys::socket_by_interrupt()?,
        "x32" => sys::bare(0x4000_0000 | libc::SYS_socket, [2, 2, 0])?,
        _ => return Err(usage("not int80 or x32")),
    };
    Ok(json!({ "fd": made }))
}

/// `autolisten`: listens without binding, says `listening PORT`, and serves one client.
pub(crate) fn autolisten(_arguments: &Arguments) -> io::Result<Value> {
    let socket = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    sys::listen(&socket)?;
    let server = TcpListener::from(socket);
    crate::say(&format!("listening {}", server.local_addr()?.port()));
    let (accepted, from) = server.accept()?;
    sys::send(&accepted.into(), b"leaked")?;
    Ok(json!({ "from": from }))
}

/// `reply PORT`: says `listening`, then `heard ADDRESS` of whoever sends a datagram over either
/// family, and answers it, until one comes from loopback.
pub(crate) fn reply(arguments: &Arguments) -> io::Result<Value> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, arguments.value(0)?))?;
    crate::say("listening");
    loop {
        let (_, from) = socket.recv_from(&mut [0; 64])?;
        let address = from.ip().to_canonical();
        crate::say(&format!("heard {address}"));
        if address.is_loopback() {
            return Ok(json!({ "from": from }));
        }
        // Whether it may answer is for the wire to say.
        drop(sys::send_to(&socket.try_clone()?.into(), b"leaked", 0, &sys::sockaddr(from)));
    }
}

/// `bind ADDRESS PORT`: takes a TCP port of the machine.
pub(crate) fn bind(arguments: &Arguments) -> io::Result<Value> {
    TcpListener::bind((arguments.value::<IpAddr>(0)?, arguments.value(1)?))?;
    Ok(json!({}))
}

/// `join USERNS NETNS INDEX`: enters namespaces that lie as files somewhere, and sends a frame there.
pub(crate) fn join(arguments: &Arguments) -> io::Result<Value> {
    for (place, kind) in [(0, libc::CLONE_NEWUSER), (1, libc::CLONE_NEWNET)] {
        let file = File::open(arguments.text(place)?)?;
        sys::bare(libc::SYS_setns, [file.as_raw_fd().into(), kind.into(), 0])?;
    }
    crate::sockets::frame(arguments.value(2)?)?;
    Ok(json!({}))
}

/// `pktinfo ADDRESS PORT INDEX`: a datagram that names the interface to leave by.
pub(crate) fn pktinfo(arguments: &Arguments) -> io::Result<Value> {
    let address = SocketAddr::new(arguments.value::<IpAddr>(0)?, arguments.value(1)?);
    let index: i32 = arguments.value(2)?;
    // in_pktinfo is index, source, target; in6_pktinfo is source, index.
    let (family, level, kind, value) = if address.is_ipv4() {
        let value = [&index.to_ne_bytes()[..], &[0; 8]].concat();
        (libc::AF_INET, libc::IPPROTO_IP, libc::IP_PKTINFO, value)
    } else {
        let value = [&[0; 16][..], &index.to_ne_bytes()].concat();
        (libc::AF_INET6, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, value)
    };
    let socket = sys::socket(family, libc::SOCK_DGRAM, 0)?;
    let mut control = sys::control(level, kind, &value);
    sys::send_message(&socket, b"leaked", &mut sys::sockaddr(address), &mut control)?;
    Ok(json!({}))
}

/// `addrform ADDRESS PORT`: a v6 socket that asked a resolver turns into a v4 one and sends on.
pub(crate) fn addrform(arguments: &Arguments) -> io::Result<Value> {
    let address = SocketAddr::new(arguments.value::<IpAddr>(0)?, arguments.value(1)?);
    let socket = sys::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
    let resolver: IpAddr = [0, 0, 0, 0, 0, 0xffff, 0x0808, 0x0808].into();
    sys::connect(&socket, &sys::sockaddr(SocketAddr::new(resolver, 53)))?;
    let four = libc::AF_INET.to_ne_bytes();
    sys::set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_ADDRFORM, &four)?;
    sys::send_to(&socket, b"leaked", 0, &sys::sockaddr(address))?;
    Ok(json!({}))
}
