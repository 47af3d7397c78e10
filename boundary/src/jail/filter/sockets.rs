//! What is asked where the usher makes every socket, and pretends to be some.

use libc::{c_long, sock_filter};

use super::{
    TYPE, all_equal, allow, argument_offset, ask, ask_if_addressed, jump, load, refuse, statement,
    when_call,
};

/// Calls whose socket may be one that the usher only pretends to be.
const PRETENDED: &[c_long] = &[
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
];

/// Options of the socket itself that are asked about when they are set: `SO_REUSEPORT`, which the
/// kernel has for INET alone, and those that [`boundary_common::option`] refuses.
const SET_SOCKET: &[i32] = &[
    libc::SO_REUSEPORT,
    libc::SO_BINDTODEVICE,
    libc::SO_MARK,
    libc::SO_ATTACH_REUSEPORT_CBPF,
    libc::SO_ATTACH_REUSEPORT_EBPF,
    libc::SO_BINDTOIFINDEX,
];

/// Options of the socket itself that are asked about when they are read: its type, its protocol and
/// its family.
const READ_SOCKET: &[i32] = &[libc::SO_TYPE, libc::SO_PROTOCOL, libc::SO_DOMAIN];

/// A flag of `sendmsg(2)` that says nothing on a unix socket.
///
/// Such a call is not asked about, so that the way to ask can be handed over; nothing is to be had by it,
/// because no socket inside takes an address from `sendmsg(2)` but those that the usher pretends to be, and
/// they get it then without.
pub const UNASKED: u32 = libc::MSG_CONFIRM.cast_unsigned();

/// What is asked where the usher makes every socket.
pub(super) fn ask_about_all(program: &mut Vec<sock_filter>) {
    let mut socket = all_equal(&[
        (argument_offset(0), libc::AF_NETLINK),
        (argument_offset(2), libc::NETLINK_ROUTE),
    ]);
    socket.push(ask());
    when_call(program, libc::SYS_socket, &socket);
    when_call(program, libc::SYS_socketpair, &streams_alone());
    for &call in PRETENDED {
        when_call(program, call, &[ask()]);
    }
    let unasked = [load(argument_offset(2)), jump(libc::BPF_JSET, UNASKED, 1, 0), ask(), allow()];
    when_call(program, libc::SYS_sendmsg, &unasked);
    when_call(program, libc::SYS_recvfrom, &ask_if_addressed());
    when_call(program, libc::SYS_setsockopt, &options_set());
    // There is no process namespace: boundary's own processes have numbers here.
    when_call(program, libc::SYS_prlimit64, &refuse_if_set(0));
    when_call(program, libc::SYS_setpriority, &refuse_if_set(1));
    when_call(program, libc::SYS_getsockopt, &options_read());
}

/// The body for `socketpair(2)`: unix ones that no name can be given to when something is sent.
fn streams_alone() -> Vec<sock_filter> {
    vec![
        load(argument_offset(0)),
        jump(libc::BPF_JEQ, libc::AF_UNIX.cast_unsigned(), 0, 5),
        load(argument_offset(1)),
        statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, TYPE),
        jump(libc::BPF_JEQ, libc::SOCK_STREAM.cast_unsigned(), 1, 0),
        jump(libc::BPF_JEQ, libc::SOCK_SEQPACKET.cast_unsigned(), 0, 1),
        allow(),
        ask(),
    ]
}

/// The body for `setsockopt(2)`: asks about what leads elsewhere, and about what the kernel has for
/// INET alone.
fn options_set() -> Vec<sock_filter> {
    const TCP: u32 = libc::IPPROTO_TCP.cast_unsigned();
    let level =
        |level: i32| [load(argument_offset(1)), jump(libc::BPF_JEQ, level.cast_unsigned(), 0, 1)];
    let mut body = Vec::new();
    for asked in [libc::IPPROTO_IP, libc::IPPROTO_IPV6, libc::IPPROTO_UDP] {
        body.extend(level(asked));
        body.push(ask());
    }
    // Data in the SYN would leave before anybody has said where to. It is optional by its nature. Why the
    // others are refused `boundary_common::option` says.
    for (name, answer) in
        [(libc::TCP_FASTOPEN_CONNECT, refuse(0)), (libc::TCP_REPAIR, ask()), (libc::TCP_ULP, ask())]
    {
        body.extend([load(argument_offset(1)), jump(libc::BPF_JEQ, TCP, 0, 3)]);
        body.extend([
            load(argument_offset(2)),
            jump(libc::BPF_JEQ, name.cast_unsigned(), 0, 1),
            answer,
        ]);
    }
    body.extend(of_the_socket(SET_SOCKET));
    body
}

/// The body for a call that concerns the caller alone if an argument is zero, and is refused otherwise.
fn refuse_if_set(argument: u32) -> [sock_filter; 3] {
    [load(argument_offset(argument)), jump(libc::BPF_JEQ, 0, 1, 0), refuse(libc::EPERM)]
}

/// The body for `getsockopt(2)`.
fn options_read() -> Vec<sock_filter> {
    of_the_socket(READ_SOCKET)
}

/// Asks about some options of the socket itself.
fn of_the_socket(names: &[i32]) -> Vec<sock_filter> {
    let mut body = Vec::new();
    for &name in names {
        body.extend([
            load(argument_offset(1)),
            jump(libc::BPF_JEQ, libc::SOL_SOCKET.cast_unsigned(), 0, 3),
            load(argument_offset(2)),
            jump(libc::BPF_JEQ, name.cast_unsigned(), 0, 1),
            ask(),
        ]);
    }
    body
}
