//! A hand inside the walls: does what the kernel tests ask for, one line, one thing, one answer.
//!
//! It has servers of its own on loopback, over both families, so that the tests can tell the
//! session's sockets from a stranger's. `hand raise` is something else, a
//! keeper to be killed, and so are `hand enclose`, a command on its way in where nothing stands,
//! `hand restrict`, which has Landlock alone around it, and `hand kill` and `hand stop`, which do so to
//! boundary where they are told to.
//!
//! *Standing*: `tests/kernel` starts it in the cgroup and talks to it.
//! *Never*: decides whether an answer is right. It waits for nothing longer than [`PATIENCE`].
#![expect(clippy::print_stdout, reason = "the line on stdout is its whole interface")]

mod enclosure;
mod keeper;
mod killer;
mod own;
mod speech;

use std::io::{self, BufRead as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use own::Own;

/// How many seconds any call may wait.
const PATIENCE: i64 = 5;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    match std::env::args().nth(1).as_deref() {
        Some("raise") => return keeper::raise(),
        Some("enclose") => return enclosure::try_it(),
        Some("inside") => return enclosure::go_in(),
        Some("restrict") => return enclosure::reach(),
        Some("kill") => return killer::end_at(Signal::SIGKILL, &arguments),
        Some("stop") => return killer::end_at(Signal::SIGSTOP, &arguments),
        _ => {}
    }
    let own = Own::open()?;
    println!("{}", own.ports()?);
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match perform(&own, &words) {
            Ok(said) => println!("ok {said}"),
            Err(error) => println!("{}", told(&error)),
        }
    }
    Ok(())
}

/// A refusal of the kernel by its name, anything else as it is.
fn told(error: &anyhow::Error) -> String {
    let errno = error.downcast_ref::<Errno>().copied().or_else(|| {
        let error = error.downcast_ref::<io::Error>()?;
        error.raw_os_error().map(Errno::from_raw)
    });
    errno.map_or_else(|| format!("bad {error:#}"), |errno| format!("{errno:?}"))
}

/// Does one thing.
fn perform(own: &Own, words: &[&str]) -> anyhow::Result<String> {
    match words {
        ["connect", "tcp", family, target] => connect(family, target),
        ["connect", "udp", family, target] => speech::connected(family, target),
        ["send", "udp", family, target] => speech::unconnected(family, target),
        ["ask", "connected", family, target] => speech::ask_connected(family, target),
        ["ask", "unconnected", family, target] => speech::ask_unconnected(family, target),
        ["twice", first, second] => twice(first, second),
        ["batch", targets @ ..] => batch(targets),
        ["talk", target] => own.talk(target),
        ["arrived"] => Ok(own.arrived()),
        ["open", path] => Ok(std::fs::File::open(path).map(|_| String::new())?),
        ["bind-device", name] => {
            let socket = open("4", SockType::Stream)?;
            setsockopt(&socket, sockopt::BindToDevice, &(*name).into())?;
            Ok(String::new())
        }
        ["option"] => {
            let socket = open("4", SockType::Stream)?;
            setsockopt(&socket, sockopt::KeepAlive, &true)?;
            setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
            Ok(String::new())
        }
        _ => anyhow::bail!("no such thing: {words:?}"),
    }
}

/// Connects and tells where the socket believes to be.
fn connect(family: &str, target: &str) -> anyhow::Result<String> {
    let socket = open(family, SockType::Stream)?;
    socket::connect(socket.as_raw_fd(), &address(family, target)?)?;
    peer(&socket)
}

/// Connects one socket twice: the first target may fail, the answer is the second's.
fn twice(first: &str, second: &str) -> anyhow::Result<String> {
    let socket = open("6", SockType::Stream)?;
    let failed = socket::connect(socket.as_raw_fd(), &address("6", first)?);
    anyhow::ensure!(failed.is_err(), "the first connect was to fail");
    socket::connect(socket.as_raw_fd(), &address("6", second)?)?;
    peer(&socket)
}

/// Connects to every target and says its name there; half of them are closed before anybody can
/// have accepted them.
fn batch(targets: &[&str]) -> anyhow::Result<String> {
    let mut open_still = Vec::new();
    for (place, target) in targets.iter().enumerate() {
        let (family, target) = target.split_once('/').unwrap_or(("4", target));
        let socket = open(family, SockType::Stream)?;
        socket::connect(socket.as_raw_fd(), &address(family, target)?)?;
        let line = format!("{target} {}\n", std::process::id());
        socket::send(socket.as_raw_fd(), line.as_bytes(), MsgFlags::MSG_NOSIGNAL)?;
        if place % 2 == 1 {
            open_still.push(socket);
        }
    }
    Ok(targets.len().to_string())
}

/// A socket that waits for nothing for long.
fn open(family: &str, kind: SockType) -> anyhow::Result<OwnedFd> {
    let family = if family == "4" { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    let patience = TimeVal::seconds(PATIENCE);
    setsockopt(&socket, sockopt::SendTimeout, &patience)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    Ok(socket)
}

/// A target as a socket of that family names it; `4in6` is a v4 address on a v6 socket.
fn address(family: &str, target: &str) -> anyhow::Result<SockaddrStorage> {
    let target: SocketAddr = target.parse()?;
    Ok(match (family, target) {
        ("6", SocketAddr::V4(v4)) => {
            SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()).into()
        }
        (_, target) => target.into(),
    })
}

/// Where a connected socket believes to be.
fn peer(socket: &OwnedFd) -> anyhow::Result<String> {
    let peer = socket::getpeername::<SockaddrStorage>(socket.as_fd().as_raw_fd())?;
    plain(&peer)
}

/// An address in one spelling: a mapped one as IPv4.
fn plain(address: &SockaddrStorage) -> anyhow::Result<String> {
    let address: SocketAddr = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddr::new(v4.ip().into(), v4.port()),
        (None, Some(v6)) => SocketAddr::new(v6.ip().to_canonical(), v6.port()),
        (None, None) => anyhow::bail!("an address of another family"),
    };
    Ok(address.to_string())
}
