//! setsockopt: refuses what `boundary_common::option` refuses.

use aya_ebpf::programs::SockoptContext;
use boundary_common::flow::{Endpoint, Refusal};
use boundary_common::option::is_allowed;
use boundary_common::steer::Why;

use crate::context::{read, write};
use crate::refusal;

/// The longest value that the kernel hands to a program.
const LONGEST: i32 = 4096;

/// Judges an option by its level and name; never looks at the value.
#[inline(always)]
pub(crate) fn set(ctx: &SockoptContext) -> bool {
    let raw = ctx.sockopt;
    let level = read!(raw, level).cast_unsigned();
    let name = read!(raw, optname).cast_unsigned();
    if !is_allowed(level, name) {
        report(ctx, level, name);
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
fn report(ctx: &SockoptContext, level: u32, name: u32) {
    let raw = ctx.sockopt;
    let sk = read!(raw, __bindgen_anon_1.sk);
    if sk.is_null() {
        return;
    }
    let family = read!(sk, family);
    let kind = read!(sk, type_);
    let protocol = read!(sk, protocol);
    refusal::report(&Refusal {
        time: refusal::now(),
        why: Why::Option as u16,
        family: family as u16,
        kind: kind as u16,
        protocol: protocol as u16,
        option: level << 16 | (name & 0xffff),
        target: Endpoint::default(),
        // SAFETY: The socket of a context is a full one.
        task: unsafe { refusal::maker(sk.cast()) },
    });
}
