//! `bpf_sock_addr` ⇄ `flow::Endpoint`: byte order lives here and nowhere else.

use core::ffi::c_void;

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use boundary_common::flow::Endpoint;
use boundary_common::steer::Socket;

use crate::context::{read, write};

/// A call with a socket address: the kernel's copy of it, which is what it will use.
pub(crate) struct Call {
    raw: *mut bpf_sock_addr,
    is_v4: bool,
}

impl Call {
    /// A call at an IPv4 hook.
    #[inline(always)]
    pub(crate) fn v4(ctx: &SockAddrContext) -> Self {
        Self { raw: ctx.sock_addr, is_v4: true }
    }

    /// A call at an IPv6 hook.
    #[inline(always)]
    pub(crate) fn v6(ctx: &SockAddrContext) -> Self {
        Self { raw: ctx.sock_addr, is_v4: false }
    }

    /// Whether it is a call at an IPv6 hook.
    #[inline(always)]
    pub(crate) const fn is_v6(&self) -> bool {
        !self.is_v4
    }

    /// The address in the call: a target, or at `recvmsg` and `getpeername` a source.
    #[inline(always)]
    pub(crate) fn endpoint(&self) -> Endpoint {
        // The port is in the first two bytes of the word, as on the wire.
        let port = u16::from_be(read!(self.raw, user_port) as u16);
        if self.is_v4 {
            Endpoint::v4(read!(self.raw, user_ip4), port)
        } else {
            let words = [
                read!(self.raw, user_ip6[0]),
                read!(self.raw, user_ip6[1]),
                read!(self.raw, user_ip6[2]),
                read!(self.raw, user_ip6[3]),
            ];
            Endpoint::v6(words, port)
        }
    }

    /// Replaces the address in the call.
    #[inline(always)]
    pub(crate) fn replace(&self, with: &Endpoint) {
        if self.is_v4 {
            write!(self.raw, with.address[3], user_ip4);
        } else {
            write!(self.raw, with.address[0], user_ip6[0]);
            write!(self.raw, with.address[1], user_ip6[1]);
            write!(self.raw, with.address[2], user_ip6[2]);
            write!(self.raw, with.address[3], user_ip6[3]);
        }
        write!(self.raw, u32::from(with.port.to_be()), user_port);
    }

    /// The kind of the socket.
    #[inline(always)]
    pub(crate) fn socket(&self) -> Socket {
        Socket { kind: read!(self.raw, type_), protocol: read!(self.raw, protocol) }
    }

    /// The address family of the socket.
    #[inline(always)]
    pub(crate) fn family(&self) -> u16 {
        read!(self.raw, family) as u16
    }

    /// The socket, as helpers take it; none where the kernel gives none.
    #[inline(always)]
    pub(crate) fn sk(&self) -> Option<*mut c_void> {
        let sk = read!(self.raw, __bindgen_anon_1.sk);
        if sk.is_null() { None } else { Some(sk.cast()) }
    }

    /// The context, as helpers take it.
    #[inline(always)]
    pub(crate) fn context(&self) -> *mut c_void {
        self.raw.cast()
    }
}
