//! `connect_unix` and `sendmsg_unix`: nobody behind the walls names a unix socket but the usher.
//!
//! The hook does not see who listens at a name, and a path may lead elsewhere by the time that the
//! kernel follows it. The usher looks at what a name leads to, and then names exactly that.

use aya_ebpf::helpers::bpf_get_current_cgroup_id;
use aya_ebpf::programs::SockAddrContext;
use boundary_common::flow::Endpoint;
use boundary_common::steer::{Socket, Why};

use crate::context::read;
use crate::maps::doors;
use crate::refusal::{self, Author, What};

/// The address family number of unix sockets.
#[doc(alias = "AF_UNIX")]
const UNIX: u16 = 1;

/// Whether the caller is in the usher's cgroup.
#[inline(always)]
pub(crate) fn may_name(ctx: &SockAddrContext) -> bool {
    let usher = doors().map_or(0, |doors| read!(doors, usher));
    // SAFETY: The helper takes nothing.
    let caller = unsafe { bpf_get_current_cgroup_id() };
    if usher != 0 && usher == caller {
        return true;
    }
    let raw = ctx.sock_addr;
    let socket = Socket { kind: read!(raw, type_), protocol: read!(raw, protocol) };
    let why = Why::Unix;
    let refused = What { why, family: UNIX, socket, option: 0, target: Endpoint::default() };
    refusal::report(&refused, Author::Caller);
    false
}
