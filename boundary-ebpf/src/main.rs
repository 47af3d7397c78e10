//! The kernel half: one program for each hook, attached to the session's own cgroup.
//!
//! A program reads its context, asks `boundary_common` what to do and carries it out. 1 lets the
//! call or packet go on, 0 makes it fail with `EPERM` (hooks that only rewrite an answer must
//! return 1). There is no session number anywhere: the attachment is the session.
//!
//! *Standing*: built by `boundary/build.rs`, loaded and attached by `boundary::jail::kernel`.
//! *Never*: knows a rule; uses a helper that Linux 5.10 lacks.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "the kernel's helpers and contexts are raw pointers")]
#![expect(clippy::cast_possible_truncation, reason = "fields are wider than what they hold")]
#![expect(clippy::needless_pass_by_value, reason = "the macros hand contexts over by value")]
#![expect(clippy::inline_always, reason = "old kernels verify one function better than many")]

mod addr;
mod connect;
mod context;
mod datagram;
mod device;
mod listener;
mod maps;
mod option;
mod packet;
mod refusal;
mod socket;
mod unix;

use aya_ebpf::macros::{cgroup_device, cgroup_skb, cgroup_sock, cgroup_sock_addr, cgroup_sockopt};
use aya_ebpf::programs::{
    DeviceContext, SkBuffContext, SockAddrContext, SockContext, SockoptContext,
};
use boundary_common::steer::Hook;

use crate::addr::Call;

/// A program connects an IPv4 socket.
#[doc(alias = "BPF_CGROUP_INET4_CONNECT")]
#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    i32::from(connect::turn(&Call::v4(&ctx), Hook::Connect))
}

/// A program connects an IPv6 socket, to a mapped address too.
#[doc(alias = "BPF_CGROUP_INET6_CONNECT")]
#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    i32::from(connect::turn(&Call::v6(&ctx), Hook::Connect))
}

/// A program sends a datagram to an IPv4 address, from an IPv6 socket too.
#[doc(alias = "BPF_CGROUP_UDP4_SENDMSG")]
#[cgroup_sock_addr(sendmsg4)]
fn sendmsg4(ctx: SockAddrContext) -> i32 {
    i32::from(connect::turn(&Call::v4(&ctx), Hook::Sendmsg))
}

/// A program sends a datagram to an IPv6 address.
#[doc(alias = "BPF_CGROUP_UDP6_SENDMSG")]
#[cgroup_sock_addr(sendmsg6)]
fn sendmsg6(ctx: SockAddrContext) -> i32 {
    i32::from(connect::turn(&Call::v6(&ctx), Hook::Sendmsg))
}

/// A program is told the source of a datagram on an IPv4 socket.
#[doc(alias = "BPF_CGROUP_UDP4_RECVMSG")]
#[cgroup_sock_addr(recvmsg4)]
fn recvmsg4(ctx: SockAddrContext) -> i32 {
    datagram::answer_from(&Call::v4(&ctx))
}

/// A program is told the source of a datagram on an IPv6 socket.
#[doc(alias = "BPF_CGROUP_UDP6_RECVMSG")]
#[cgroup_sock_addr(recvmsg6)]
fn recvmsg6(ctx: SockAddrContext) -> i32 {
    datagram::answer_from(&Call::v6(&ctx))
}

/// A program asks where an IPv4 socket is connected to.
#[doc(alias = "BPF_CGROUP_INET4_GETPEERNAME")]
#[cgroup_sock_addr(getpeername4)]
fn getpeername4(ctx: SockAddrContext) -> i32 {
    connect::peer_of(&Call::v4(&ctx))
}

/// A program asks where an IPv6 socket is connected to.
#[doc(alias = "BPF_CGROUP_INET6_GETPEERNAME")]
#[cgroup_sock_addr(getpeername6)]
fn getpeername6(ctx: SockAddrContext) -> i32 {
    connect::peer_of(&Call::v6(&ctx))
}

/// A program makes an IPv4 or IPv6 socket.
#[doc(alias = "BPF_CGROUP_INET_SOCK_CREATE")]
#[cgroup_sock(sock_create)]
fn sock_create(ctx: SockContext) -> i32 {
    i32::from(socket::make(&ctx))
}

/// A program sets a socket option.
#[doc(alias = "BPF_CGROUP_SETSOCKOPT")]
#[cgroup_sockopt(setsockopt)]
fn setsockopt(ctx: SockoptContext) -> i32 {
    i32::from(option::set(&ctx))
}

/// A packet of a socket of the session is about to leave.
#[doc(alias = "BPF_CGROUP_INET_EGRESS")]
#[cgroup_skb(egress)]
fn egress(ctx: SkBuffContext) -> i32 {
    i32::from(packet::leaves(&ctx))
}

/// A packet is about to reach a socket of the session.
#[doc(alias = "BPF_CGROUP_INET_INGRESS")]
#[cgroup_skb(ingress)]
fn ingress(ctx: SkBuffContext) -> i32 {
    i32::from(packet::arrives(&ctx))
}

/// A program opens or makes a device file.
#[doc(alias = "BPF_CGROUP_DEVICE")]
#[cgroup_device]
fn device(ctx: DeviceContext) -> i32 {
    i32::from(device::open(&ctx))
}

/// A program connects a unix socket to a name. The section says another hook because the object's
/// reader knows no unix ones; what counts is where the loader attaches it.
#[doc(alias = "BPF_CGROUP_UNIX_CONNECT")]
#[cgroup_sock_addr(connect4)]
fn connect_unix(ctx: SockAddrContext) -> i32 {
    i32::from(unix::may_name(&ctx))
}

/// A program sends a datagram to the name of a unix socket.
#[doc(alias = "BPF_CGROUP_UNIX_SENDMSG")]
#[cgroup_sock_addr(sendmsg4)]
fn sendmsg_unix(ctx: SockAddrContext) -> i32 {
    i32::from(unix::may_name(&ctx))
}

/// A panic that can be reached is a loop without end, which the kernel refuses to load.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// What the kernel checks before it lends its helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
