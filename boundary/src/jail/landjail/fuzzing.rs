//! What a waiting call points to, as the fuzzers see it: the memory is their own.
//!
//! *Standing*: `fuzz/` is built with `--cfg fuzzing`, and so is this. *Never*: part of a program that
//! is shipped.

use std::net::{Ipv4Addr, SocketAddr};

use nix::errno::Errno;
use nix::libc;

use super::address::{self, Address, canonical, is_own, loopback, spelled, written};
use super::aim::Aim;
use super::datagrams::{LONGEST, Received};
use super::messages::{named, scatter};
use super::service::Asked;
use super::signals::Ids;
use crate::jail::filter::SIGNALLING;
use crate::jail::procfs::Stat;
use crate::jail::usher::message::Header;
use crate::jail::usher::thread::{Name, Thread};

/// Reads bytes as an address, and holds every spelling of it against the others.
pub fn address(bytes: &[u8], length: u64) {
    if let Ok(length) = address::length(length) {
        assert!(length <= 128, "longer than the kernel takes");
    }
    match Address::read(bytes) {
        Ok(Address::Inet(target)) => {
            let again = Address::read(&written(target));
            assert_eq!(again, Ok(Address::Inet(target)), "written as it was read");
            let one = canonical(target);
            assert_eq!(canonical(one), one);
            for family in [libc::AF_INET, libc::AF_INET6] {
                assert_eq!(canonical(spelled(target, family)), one, "another spelling");
            }
            assert_eq!(is_own(target), is_own(one), "{target}");
            assert_eq!(is_own(target), loopback(target).ip().is_loopback(), "{target}");
        }
        Ok(Address::Unix(address)) => drop(Name::in_address(&address).shown()),
        Ok(Address::Unspecified | Address::Other) | Err(_) => {}
    }
}

/// A message in this memory: where its name lies and how long it says that it is, and its parts.
/// None where a part is not in it.
pub fn message(
    memory: &mut [u8],
    name: (u16, u32),
    parts: &[(u16, u16)],
    sent: Vec<u8>,
) -> Option<()> {
    let inside = |at: u16, length: u16| {
        memory.get(usize::from(at)..)?.get(..usize::from(length)).map(<[u8]>::to_vec)
    };
    let content: Vec<Vec<u8>> =
        parts.iter().map(|(at, length)| inside(*at, *length)).collect::<Option<_>>()?;
    let room = u16::try_from(name.1).unwrap_or(u16::MAX).min(128);
    inside(name.0, room)?;
    let start = memory.as_mut_ptr() as u64;
    let vector: Vec<[u64; 2]> =
        parts.iter().map(|(at, length)| [start + u64::from(*at), u64::from(*length)]).collect();
    let (name_at, length) = (start + u64::from(name.0), u64::from(name.1));
    let mut header = [name_at, length, vector.as_ptr() as u64, vector.len() as u64, 0, 0, 0];
    let at = header.as_mut_ptr() as u64;
    let arguments = [0, at, 0, 0, 0, 0];
    let asked = Asked { id: 0, thread: Thread::new(std::process::id()), call: 0, arguments };
    let read = Header::read(asked.thread, at).expect("it is there");
    match read.data(asked.thread, LONGEST) {
        Ok(data) => assert_eq!(data, content.concat(), "gathered as it lies"),
        Err(error) => {
            let length: usize = content.iter().map(Vec::len).sum();
            assert!(parts.len() > 1024 || length > 65_507, "{error}: {length}");
            return Some(());
        }
    }
    let whom = named(&asked, name_at, length);
    assert!(whom.is_err() || length <= 128, "{whom:?} in {length} bytes");
    let whole = sent.len();
    let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
    // What is written there is the fuzzer's memory, where it was read before; and the header.
    let (taken, all) = scatter(&asked, &Received { data: sent, source }).ok()?;
    let room: usize = content.iter().map(Vec::len).sum();
    assert_eq!((taken, all), (whole.min(room), whole));
    Some(())
}

/// Whom a call signals, which is one of those that the usher is asked about.
pub fn aim(call: u8, arguments: [i32; 2], caller: u32) {
    let call = SIGNALLING[usize::from(call) % SIGNALLING.len()];
    let numbers = arguments.map(|number| u32::try_from(number).ok());
    match Aim::of(call, arguments, caller) {
        Ok(Aim::Oneself) => assert!(numbers.contains(&Some(caller)), "{caller} {arguments:?}"),
        Ok(Aim::Process(process)) => {
            assert_eq!(numbers[0], Some(process));
            assert!(process != 0 && process != caller);
        }
        Ok(Aim::Thread(process, thread)) => {
            assert!(thread != 0 && thread != caller && process != Some(caller));
            assert!(numbers.contains(&Some(thread)));
        }
        Ok(Aim::Group(group)) => {
            assert_eq!(call, libc::SYS_kill);
            assert_eq!(group.unwrap_or_default(), arguments[0].unsigned_abs());
            assert!(arguments[0] <= 0 && arguments[0] != -1);
        }
        Ok(Aim::Everybody) => assert_eq!((call, arguments[0]), (libc::SYS_kill, -1)),
        Ok(Aim::Handle(descriptor)) => assert_eq!(descriptor, arguments[0]),
        Err(error) => assert!([Errno::EINVAL, Errno::ESRCH].contains(&error), "{error}"),
    }
}

/// A process that names itself as it likes stands where it stands. Any other text is read or is not.
pub fn process(name: &[u8], numbers: [u32; 4], started: u64, any: &str) {
    let [number, parent, group, session] = numbers;
    let comm = String::from_utf8_lossy(name).into_owned();
    let rest = "0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0";
    let text = format!("{number} ({comm}) S {parent} {group} {session} {rest} {started} 1 1\n");
    let expected = Stat { number, comm, is_over: false, parent, group, session, started };
    assert_eq!(Stat::parse(&text), Some(expected));
    drop((Stat::parse(any), Ids::parse(any)));
}
