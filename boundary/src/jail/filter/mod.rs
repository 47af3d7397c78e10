//! The static system-call filter: what no hook and no namespace closes.
//!
//! *Standing*: [`child`](super::child) installs it last, so that it covers everything the command
//! runs. All decisions are on register arguments, which the program cannot change after they were
//! checked; where the arguments do not tell, the [`usher`](super::usher) is asked.
//! *Never*: follows a pointer.

mod signals;
mod sockets;

#[cfg(fuzzing)]
pub(in crate::jail) use signals::SIGNALLING;
pub use sockets::UNASKED;

use boundary_common::option;
use libc::{c_long, sock_filter};

/// The architecture that a system call must be made for, `AUDIT_ARCH_*` of linux/audit.h.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
/// The architecture that a system call must be made for, `AUDIT_ARCH_*` of linux/audit.h.
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Calls that are refused whatever their arguments, and how.
///
/// `ENOSYS` where runtimes know a way without the call, so that they take it; `EPERM` elsewhere.
const REFUSED: &[(c_long, i32)] = &[
    // They submit what other calls would be filtered for.
    (libc::SYS_io_uring_setup, libc::ENOSYS),
    (libc::SYS_io_uring_enter, libc::ENOSYS),
    (libc::SYS_io_uring_register, libc::ENOSYS),
    // Its flags lie behind a pointer; every libc falls back to clone(2), whose flags do not.
    (libc::SYS_clone3, libc::ENOSYS),
    // The kernel runs a helper outside every cgroup for them, and resolves names with it.
    (libc::SYS_add_key, libc::EPERM),
    (libc::SYS_request_key, libc::EPERM),
    (libc::SYS_keyctl, libc::EPERM),
    // Reach into other processes and namespaces.
    (libc::SYS_setns, libc::EPERM),
    (libc::SYS_pidfd_getfd, libc::EPERM),
    (libc::SYS_open_by_handle_at, libc::EPERM),
    // Change the walls.
    (libc::SYS_bpf, libc::EPERM),
    (libc::SYS_perf_event_open, libc::EPERM),
    (libc::SYS_mount, libc::EPERM),
    (libc::SYS_umount2, libc::EPERM),
    (libc::SYS_pivot_root, libc::EPERM),
    (libc::SYS_open_tree, libc::EPERM),
    (libc::SYS_move_mount, libc::EPERM),
    (libc::SYS_fsopen, libc::EPERM),
    (libc::SYS_fsconfig, libc::EPERM),
    (libc::SYS_fsmount, libc::EPERM),
    (libc::SYS_fspick, libc::EPERM),
    (libc::SYS_mount_setattr, libc::EPERM),
    (libc::SYS_userfaultfd, libc::EPERM),
];

/// Calls refused when an argument has any of some bits: number, argument, bits, errno.
const REFUSED_BITS: &[(c_long, u32, u32, i32)] = &[
    (libc::SYS_unshare, 0, NEW_NAMESPACES, libc::EPERM),
    (libc::SYS_clone, 0, NEW_NAMESPACES, libc::EPERM),
    // Carries data in the SYN by a path that connect's hooks see only on newer kernels.
    (libc::SYS_sendto, 3, MSG_FASTOPEN, libc::EOPNOTSUPP),
    (libc::SYS_sendmsg, 2, MSG_FASTOPEN, libc::EOPNOTSUPP),
    (libc::SYS_sendmmsg, 3, MSG_FASTOPEN, libc::EOPNOTSUPP),
];

/// Calls refused when an argument has a value: number, argument, value, errno.
const REFUSED_VALUES: &[(c_long, u32, u32, i32)] = &[
    // Types into the caller's terminal.
    (libc::SYS_ioctl, 1, 0x5412, libc::EPERM), // TIOCSTI
    (libc::SYS_ioctl, 1, 0x541c, libc::EPERM), // TIOCLINUX
    // Attaches to a network device that stays (tun(4)), whose owner needs no right for that.
    (libc::SYS_ioctl, 1, 0x4004_54ca, libc::EPERM), // TUNSETIFF
    // Makes a process a virtual machine to the host (linux/vhost.h), which may call the host over vsock.
    (libc::SYS_ioctl, 1, 0xaf01, libc::EPERM), // VHOST_SET_OWNER
];

/// A user namespace gives capabilities, a network namespace a network, a cgroup namespace a view.
const NEW_NAMESPACES: u32 =
    (libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWCGROUP | libc::CLONE_NEWNS)
        .cast_unsigned();

/// `MSG_FASTOPEN` of linux/socket.h.
const MSG_FASTOPEN: u32 = 0x2000_0000;

/// What `socket(2)` may make beside the INET families: a family, and a protocol where only one will
/// do. The usher refuses others, and records that.
const SOCKETS: &[(i32, Option<i32>)] = &[
    (libc::AF_UNIX, None),
    // getifaddrs, `ip addr`: reading routes is no way out.
    (libc::AF_NETLINK, Some(libc::NETLINK_ROUTE)),
];

/// The families of which `socket(2)` makes what is not raw. Where there are hooks, which types and
/// protocols those are is for the one on `sock_create` to say, because it records what it refuses;
/// raw ones never get there without a capability, so that the usher records them.
const INET: [i32; 2] = [libc::AF_INET, libc::AF_INET6];

/// Who says which sockets of the internet there may be, and which of their options are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// The hooks of the kernel half. The kernel may have none on calls that name a unix socket (before
    /// Linux 6.7).
    Hooks {
        /// Whether it has.
        unix: bool,
    },
    /// Nobody: this filter says it, and the usher is asked about what it does not permit.
    Nobody,
    /// The usher, which makes and connects every socket: it is asked about everything that counts.
    Usher,
}

/// Who keeps in the command's signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signals {
    /// Landlock's scope for them (Linux 6.12).
    Landlock,
    /// The command's process namespace, in which nobody outside has a number; but a terminal needs none,
    /// and neither does one's own group.
    Namespace,
    /// The usher, which is asked about whatever sends one.
    Usher,
}

/// The whole filter.
pub fn program(beside: Beside, signals: Signals) -> Vec<sock_filter> {
    let mut program = Vec::with_capacity(256);
    only_this_architecture(&mut program);
    for &(call, errno) in REFUSED {
        when_call(&mut program, call, &[refuse(errno)]);
    }
    for &(call, argument, bits, errno) in REFUSED_BITS {
        let body =
            [load(argument_offset(argument)), jump(libc::BPF_JSET, bits, 0, 1), refuse(errno)];
        when_call(&mut program, call, &body);
    }
    for &(call, argument, value, errno) in REFUSED_VALUES {
        let body =
            [load(argument_offset(argument)), jump(libc::BPF_JEQ, value, 0, 1), refuse(errno)];
        when_call(&mut program, call, &body);
    }
    keep_limit_on_cores(&mut program);
    when_call(&mut program, libc::SYS_connect, &[ask()]);
    when_call(&mut program, libc::SYS_sendto, &ask_if_addressed());
    if beside == Beside::Usher {
        sockets::ask_about_all(&mut program);
    } else {
        when_call(&mut program, libc::SYS_socket, &socket_allowed(beside));
        when_call(&mut program, libc::SYS_socketpair, &socketpair_allowed());
        when_call(&mut program, libc::SYS_prlimit64, &limits_of_another(ask()));
    }
    if matches!(beside, Beside::Nobody | Beside::Hooks { unix: false }) {
        // Whom a message is for lies behind a pointer.
        when_call(&mut program, libc::SYS_sendmsg, &[ask()]);
        when_call(&mut program, libc::SYS_sendmmsg, &[ask()]);
    }
    if beside == Beside::Nobody {
        when_call(&mut program, libc::SYS_setsockopt, &option_allowed());
    }
    if signals != Signals::Landlock {
        signals::refuse_choice(&mut program);
    }
    match signals {
        Signals::Landlock => {}
        Signals::Namespace => signals::ask_about_group(&mut program),
        Signals::Usher => signals::ask(&mut program),
    }
    program.push(allow());
    program
}

/// The filter of a room, beside that of the session: a process in it changes no limit of one around it.
/// Landlock keeps it from others in everything else.
pub fn of_a_room() -> Vec<sock_filter> {
    let mut program = Vec::new();
    only_this_architecture(&mut program);
    when_call(&mut program, libc::SYS_prlimit64, &limits_of_another(refuse(libc::EPERM)));
    program.push(allow());
    program
}

/// A filter that asks about one call, to see whether there can be such a filter.
pub fn asking(call: c_long) -> Vec<sock_filter> {
    let mut program = Vec::new();
    only_this_architecture(&mut program);
    when_call(&mut program, call, &[ask()]);
    program.push(allow());
    program
}

/// Kills a call made for another architecture, and answers `ENOSYS` to x32's numbers.
///
/// A 32-bit call (`int 0x80`) has other numbers and multiplexes sockets behind a pointer.
fn only_this_architecture(program: &mut Vec<sock_filter>) {
    const OFFSET_ARCH: u32 = 4;
    program.push(load(OFFSET_ARCH));
    program.push(jump(libc::BPF_JEQ, ARCHITECTURE, 1, 0));
    program.push(statement(libc::BPF_RET, libc::SECCOMP_RET_KILL_PROCESS));
    program.push(load(OFFSET_CALL));
    #[cfg(target_arch = "x86_64")]
    {
        const X32_BIT: u32 = 0x4000_0000;
        program.push(jump(libc::BPF_JGE, X32_BIT, 0, 1));
        program.push(refuse(libc::ENOSYS));
    }
}

/// The bits of the type of a socket that say the type.
const TYPE: u32 = 0xf;

/// The body for `socket(2)`: allows exactly [`SOCKETS`], and [`INET`] but for raw ones, or TCP and UDP
/// alone.
fn socket_allowed(beside: Beside) -> Vec<sock_filter> {
    let mut body = Vec::new();
    for family in INET {
        if beside == Beside::Nobody {
            body.extend(tcp_or_udp(family));
            continue;
        }
        body.extend([
            load(argument_offset(0)),
            jump(libc::BPF_JEQ, family.cast_unsigned(), 0, 5),
            load(argument_offset(1)),
            statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, TYPE),
            jump(libc::BPF_JEQ, libc::SOCK_RAW.cast_unsigned(), 0, 1),
            ask(),
            allow(),
        ]);
    }
    for &(family, protocol) in SOCKETS {
        let mut tests = vec![(argument_offset(0), family)];
        tests.extend(protocol.map(|protocol| (argument_offset(2), protocol)));
        body.extend(all_equal(&tests));
    }
    body.push(ask());
    body
}

/// Allows TCP and UDP of a family, asks about every other socket of it, and leaves other families to
/// what follows.
fn tcp_or_udp(family: i32) -> Vec<sock_filter> {
    let mut body = vec![
        load(argument_offset(0)),
        jump(libc::BPF_JEQ, family.cast_unsigned(), 0, 14),
        load(argument_offset(1)),
        statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, TYPE),
    ];
    let kinds =
        [(libc::SOCK_STREAM, libc::IPPROTO_TCP, 5), (libc::SOCK_DGRAM, libc::IPPROTO_UDP, 4)];
    for (kind, protocol, over) in kinds {
        body.extend([
            jump(libc::BPF_JEQ, kind.cast_unsigned(), 0, over),
            load(argument_offset(2)),
            jump(libc::BPF_JEQ, 0, 1, 0),
            jump(libc::BPF_JEQ, protocol.cast_unsigned(), 0, 1),
            allow(),
        ]);
        body.extend((kind == libc::SOCK_STREAM).then(ask));
    }
    body.push(ask());
    body
}

/// The body for `setsockopt(2)`: asks about the options that [`option::is_allowed`] does not allow.
fn option_allowed() -> Vec<sock_filter> {
    let mut body = Vec::new();
    for level in option::LEVELS {
        let names: Vec<u32> = (0..128).filter(|name| !option::is_allowed(level, *name)).collect();
        let to_ask = names.len();
        body.extend([
            load(argument_offset(1)),
            jump(libc::BPF_JEQ, level, 0, offset_of(to_ask + 3)),
            load(argument_offset(2)),
        ]);
        let tests = names.iter().enumerate();
        body.extend(
            tests.map(|(place, name)| jump(libc::BPF_JEQ, *name, offset_of(to_ask - place), 0)),
        );
        body.extend([allow(), ask()]);
    }
    body
}

/// The body for `socketpair(2)`: unix only.
fn socketpair_allowed() -> Vec<sock_filter> {
    let mut body = all_equal(&[(argument_offset(0), libc::AF_UNIX)]);
    body.push(ask());
    body
}

/// The body for `prlimit(2)`: what is said where limits are set of a process that has a number.
fn limits_of_another(said: sock_filter) -> [sock_filter; 7] {
    const NEW: u32 = 2;
    [
        load(argument_offset(0)),
        jump(libc::BPF_JEQ, 0, 5, 0),
        load(argument_offset(NEW)),
        jump(libc::BPF_JEQ, 0, 0, 2),
        load(argument_offset(NEW) + 4),
        jump(libc::BPF_JEQ, 0, 1, 0),
        said,
    ]
}

/// Keeps the limit on cores as it is: by any but 1, be it lower, the kernel hands a crash to the machine's
/// program for cores, outside of every wall.
///
/// Who sets its own is told that it is done: agents that hold keys set none, and end where they may not. That
/// of another process is refused before anybody is asked about it.
fn keep_limit_on_cores(program: &mut Vec<sock_filter>) {
    /// `RLIMIT_CORE` of asm-generic/resource.h, whose type is not the same in every C library.
    const CORE: u32 = 4;
    const NEW: u32 = 2;
    let is_cores = |over| jump(libc::BPF_JEQ, CORE, 0, over);
    let own = [load(argument_offset(0)), is_cores(1), refuse(0)];
    when_call(program, libc::SYS_setrlimit, &own);
    let any = [
        load(argument_offset(1)),
        is_cores(8),
        load(argument_offset(NEW)),
        jump(libc::BPF_JEQ, 0, 0, 2),
        load(argument_offset(NEW) + 4),
        jump(libc::BPF_JEQ, 0, 4, 0),
        load(argument_offset(0)),
        jump(libc::BPF_JEQ, 0, 0, 1),
        refuse(0),
        refuse(libc::EPERM),
    ];
    when_call(program, libc::SYS_prlimit64, &any);
}

/// The body for `sendto(2)`: asks if there is an address, which is a pointer of 64 bits.
fn ask_if_addressed() -> Vec<sock_filter> {
    const ADDRESS: u32 = 4;
    vec![
        load(argument_offset(ADDRESS)),
        jump(libc::BPF_JEQ, 0, 0, 2),
        load(argument_offset(ADDRESS) + 4),
        jump(libc::BPF_JEQ, 0, 1, 0),
        ask(),
    ]
}

/// Allows when every (offset, value) holds, else falls through to what follows.
fn all_equal(tests: &[(u32, i32)]) -> Vec<sock_filter> {
    let mut code = vec![allow()];
    for &(offset, value) in tests.iter().rev() {
        let rest = offset_of(code.len());
        let mut test = vec![load(offset), jump(libc::BPF_JEQ, value.cast_unsigned(), 0, rest)];
        test.append(&mut code);
        code = test;
    }
    code
}

/// Runs `body` for one call only, then goes on with the call number loaded again.
fn when_call(program: &mut Vec<sock_filter>, call: c_long, body: &[sock_filter]) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "call numbers are small"
    )]
    let number = call as u32;
    program.push(jump(libc::BPF_JEQ, number, 0, offset_of(body.len() + 1)));
    program.extend_from_slice(body);
    program.push(load(OFFSET_CALL));
}

/// Where `seccomp_data` holds the call's number.
const OFFSET_CALL: u32 = 0;

/// Where `seccomp_data` holds the low half of an argument, on the little-endian machines we run on.
const fn argument_offset(argument: u32) -> u32 {
    16 + 8 * argument
}

/// A jump distance. Bodies are a few dozen instructions; the tests build the whole filter.
fn offset_of(instructions: usize) -> u8 {
    u8::try_from(instructions).unwrap_or(u8::MAX)
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn allow() -> sock_filter {
    statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW)
}

/// Leaves it to the usher, which refuses what it is asked about a family, and records that.
fn ask() -> sock_filter {
    statement(libc::BPF_RET, libc::SECCOMP_RET_USER_NOTIF)
}

fn refuse(errno: i32) -> sock_filter {
    statement(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs())
}

fn statement(code: u32, k: u32) -> sock_filter {
    jump_raw(code, k, 0, 0)
}

fn jump(condition: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    jump_raw(libc::BPF_JMP | condition | libc::BPF_K, k, jt, jf)
}

fn jump_raw(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    #[expect(clippy::cast_possible_truncation, reason = "BPF opcodes fit in a byte")]
    let code = code as u16;
    sock_filter { code, jt, jf, k }
}
