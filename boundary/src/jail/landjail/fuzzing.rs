//! What a waiting call points to, as the fuzzers see it: the memory is their own.
//!
//! *Standing*: `fuzz/` is built with `--cfg fuzzing`, and so is this. *Never*: part of a program that
//! is shipped.

use std::net::{Ipv4Addr, SocketAddr};

use super::address::{self, Address, canonical, is_own, loopback, spelled, written};
use super::datagrams::Received;
use super::messages::{Header, named, scatter};
use super::service::Asked;
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
    let read = Header::read(&asked, at).expect("it is there");
    match read.data(&asked) {
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
