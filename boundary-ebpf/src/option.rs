//! setsockopt: refuses what `boundary_common::option` refuses.

use aya_ebpf::programs::SockoptContext;
use boundary_common::flow::Endpoint;
use boundary_common::option::is_allowed;
use boundary_common::steer::{Socket, Why};

use crate::context::{read, write};
use crate::refusal::{self, Author, What};

/// The longest value that the kernel hands to a program.
const LONGEST: i32 = 4096;

/// Judges an option by its level and name; never looks at the value.
#[inline(always)]
pub(crate) fn set(ctx: &SockoptContext) -> bool {
    let raw = ctx.sockopt;
    let level = read!(raw, level).cast_unsigned();
    let name = read!(raw, optname).cast_unsigned();
    if !is_allowed(level, name) {
        report(ctx);
        return false;
    }
    let length = read!(raw, optlen);
    if length > LONGEST {
        // A longer value came cut off; zero tells the kernel to take the caller's own, and
        // without it the call fails with EFAULT.
        write!(raw, 0, optlen);
    }
    true
}

/// Reports a refused option. Older kernels do not tell this hook who calls, so it names who made
/// the socket.
#[inline(always)]
fn report(ctx: &SockoptContext) {
    let raw = ctx.sockopt;
    let level = read!(raw, level).cast_unsigned();
    let name = read!(raw, optname).cast_unsigned();
    let sk = read!(raw, __bindgen_anon_1.sk);
    if sk.is_null() {
        return;
    }
    let refused = What {
        why: Why::Option,
        family: read!(sk, family) as u16,
        socket: Socket { kind: read!(sk, type_), protocol: read!(sk, protocol) },
        option: level << 16 | (name & 0xffff),
        target: Endpoint::default(),
    };
    refusal::report(&refused, Author::Maker(sk.cast()));
}
