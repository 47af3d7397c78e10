//! Socket options that move a packet without any connect or send hook seeing where to.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::{Arguments, sys, usage};

/// `option NAME [INTERFACE_INDEX]`: sets it on a fresh socket.
pub(crate) fn option(arguments: &Arguments) -> io::Result<Value> {
    let index: i32 = arguments.value(1).unwrap_or(1);
    let attempt = attempt(arguments.text(0)?, index)?;
    let kind = if attempt.stream { libc::SOCK_STREAM } else { libc::SOCK_DGRAM };
    let socket = sys::socket(attempt.family, kind, 0)?;
    sys::set_option(&socket, attempt.level, attempt.option, &attempt.value)?;
    Ok(json!({}))
}

/// One option to set, and the socket to set it on.
struct Attempt {
    family: i32,
    stream: bool,
    level: i32,
    option: i32,
    value: Vec<u8>,
}

/// What to do for an option's name.
fn attempt(name: &str, index: i32) -> io::Result<Attempt> {
    let four = |level, option, value| Attempt {
        family: libc::AF_INET,
        stream: true,
        level,
        option,
        value,
    };
    let six = |option, value| Attempt {
        family: libc::AF_INET6,
        stream: false,
        level: libc::IPPROTO_IPV6,
        option,
        value,
    };
    let on = 1_i32.to_ne_bytes().to_vec();
    Ok(match name {
        "bind-to-device" => four(libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"eth0\0".to_vec()),
        "mark" => four(libc::SOL_SOCKET, libc::SO_MARK, on),
        "unicast-if" => four(libc::IPPROTO_IP, libc::IP_UNICAST_IF, index.to_be_bytes().to_vec()),
        "transparent" => four(libc::IPPROTO_IP, libc::IP_TRANSPARENT, on),
        "source-route" => {
            four(libc::IPPROTO_IP, libc::IP_OPTIONS, vec![131, 7, 4, 203, 0, 113, 66, 0])
        }
        "join4" => {
            let mut value = Ipv4Addr::new(239, 66, 66, 66).octets().to_vec();
            value.extend([0; 4]);
            value.extend(index.to_ne_bytes());
            let join = four(libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, value);
            Attempt { stream: false, ..join }
        }
        "freebind" => four(libc::IPPROTO_IP, libc::IP_FREEBIND, on),
        "freebind6" => six(libc::IPV6_FREEBIND, on),
        "repair" => four(libc::IPPROTO_TCP, libc::TCP_REPAIR, on),
        "ulp" => four(libc::IPPROTO_TCP, libc::TCP_ULP, b"tls\0".to_vec()),
        "unicast-if6" => six(libc::IPV6_UNICAST_IF, index.to_be_bytes().to_vec()),
        "routing-header" => {
            // Segment routing (type 4) by way of one address: the packet goes there.
            let mut value = vec![0, 2, 4, 0, 0, 0, 0, 0];
            value.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x66).octets());
            six(libc::IPV6_RTHDR, value)
        }
        "join6" => {
            let mut value = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0x6666, 0x6666).octets().to_vec();
            value.extend(index.to_ne_bytes());
            six(libc::IPV6_ADD_MEMBERSHIP, value)
        }
        _ => return Err(usage("no such option")),
    })
}
