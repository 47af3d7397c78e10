//! The place where it is measured: namespaces of its own, with two addresses and a resolver.
//!
//! *Standing*: the conductor enters it before its first thread; everything it starts inherits it,
//! and the kernel removes it with the last of those. *Never*: changes anything outside.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Where hosts below `rsa.test` are.
pub(crate) const RSA: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// Where hosts below `ecdsa.test` are.
pub(crate) const ECDSA: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// Who is asked for names.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 53);

/// How long an answer holds, in seconds.
const LIFETIME: u32 = 60;

/// Leaves the machine's namespaces for new ones, in which the addresses and the resolver are.
///
/// Must be called while the process has one thread.
pub(crate) fn enter(folder: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("unshare")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("mount")?;
    cover(folder, "/etc/resolv.conf", &format!("nameserver {RESOLVER}\n"))?;
    cover(folder, "/etc/hosts", "127.0.0.1 localhost\n")?;
    ip(&format!(
        "link set lo up\naddr add {RSA}/32 dev lo\naddr add {ECDSA}/32 dev lo\n\
         addr add {RESOLVER}/32 dev lo\n"
    ))?;
    // Thousands of short connections a second: ports must not run out.
    for (name, value) in [("ip_local_port_range", "1024 65000"), ("tcp_tw_reuse", "1")] {
        let path = format!("/proc/sys/net/ipv4/{name}");
        fs::write(&path, value).with_context(|| path.clone())?;
    }
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("RLIMIT_NOFILE")?;
    Ok(())
}

/// Lays a file with this text over another.
fn cover(folder: &Path, over: &str, text: &str) -> Result<()> {
    let name = Path::new(over).file_name().context("a file's name")?;
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    let none: Option<&str> = None;
    mount(Some(&path), over, none, MsFlags::MS_BIND, none).with_context(|| over.to_owned())
}

/// Runs a batch of `ip` commands.
fn ip(batch: &str) -> Result<()> {
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
    ip.stdin.take().context("a pipe")?.write_all(batch.as_bytes())?;
    ensure!(ip.wait()?.success(), "ip refused one of:\n{batch}");
    Ok(())
}

/// Answers every question in a thread, until the process ends.
pub(crate) fn answer_names() -> Result<()> {
    let socket = UdpSocket::bind((RESOLVER, 53)).context("the resolver's address")?;
    std::thread::Builder::new().name("resolver".into()).spawn(move || {
        let mut question = [0; 512];
        loop {
            let Ok((length, client)) = socket.recv_from(&mut question) else { continue };
            let question = question.get(..length).unwrap_or_default();
            if let Some(answer) = answer(question) {
                reply(&socket, &answer, client);
            }
        }
    })?;
    Ok(())
}

/// Sends an answer; a client that is gone needs none.
#[expect(clippy::disallowed_methods, reason = "this is no part of boundary")]
fn reply(socket: &UdpSocket, answer: &[u8], client: std::net::SocketAddr) {
    drop(socket.send_to(answer, client));
}

/// The answer to a question (RFC 1035 §4.1): the address of the name's zone for A, else nothing.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let name_end = question.get(12..)?.iter().position(|byte| *byte == 0)? + 13;
    let name = question.get(12..name_end)?.to_ascii_lowercase();
    let kind = question.get(name_end..name_end + 2)?;
    let zone = [(b"\x03rsa\x04test\0".as_slice(), RSA), (b"\x05ecdsa\x04test\0", ECDSA)];
    let found = zone.iter().find(|(zone, _)| name.ends_with(zone)).map(|(_, address)| address);
    let address = found.filter(|_| kind == [0, 1]);
    let mut answer = question.get(..2)?.to_vec();
    let code = if found.is_some() { 0x80 } else { 0x83 };
    answer.extend([0x81, code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    answer.extend(question.get(12..name_end + 4)?);
    if let Some(address) = address {
        // The name is the one asked for, at offset 12.
        answer.extend([0xc0, 12, 0, 1, 0, 1]);
        answer.extend(LIFETIME.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::{RSA, answer};

    fn question(kind: u8) -> Vec<u8> {
        let mut bytes = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend(b"\x01a\x03RSA\x04test\0");
        bytes.extend([0, kind, 0, 1]);
        bytes
    }

    #[test]
    fn a_name_of_a_zone_has_the_zones_address() {
        let answer = answer(&question(1)).unwrap();
        assert!(answer.ends_with(&RSA.octets()));
        assert_eq!(answer[..8], [7, 9, 0x81, 0x80, 0, 1, 0, 1]);
    }

    #[test]
    fn another_type_of_it_is_an_empty_answer_and_another_name_none() {
        let empty = answer(&question(28)).unwrap();
        assert_eq!((empty[3], empty[7]), (0x80, 0));
        let mut other = question(1);
        other[16] = b'x';
        assert_eq!(answer(&other).unwrap()[3], 0x83);
    }
}
