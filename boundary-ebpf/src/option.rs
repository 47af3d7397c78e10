//! setsockopt: refuses what `boundary_common::option` refuses.

use core::ptr;

use aya_ebpf::programs::SockoptContext;
use boundary_common::flow::{Endpoint, Refusal};
use boundary_common::option::is_allowed;
use boundary_common::steer::Why;

use crate::refusal;

/// The longest value that the kernel hands to a program.
const LONGEST: i32 = 4096;

/// Judges an option by its level and name; never looks at the value.
#[inline(always)]
pub(crate) fn set(ctx: &SockoptContext) -> bool {
    let raw = ctx.sockopt;
    // SAFETY: The kernel passes a valid context.
    let level = unsafe { ptr::read_volatile(&raw const (*raw).level) } as u32;
    // SAFETY: As above.
    let name = unsafe { ptr::read_volatile(&raw const (*raw).optname) } as u32;
    if !is_allowed(level, name) {
        report(ctx, level, name);
        return false;
    }
    // SAFETY: As above.
    let length = unsafe { ptr::read_volatile(&raw const (*raw).optlen) };
    if length > LONGEST {
        // A longer value came cut off; zero tells the kernel to take the caller's own, and
        // without it the call fails with EFAULT.
        // SAFETY: As above, and the length may be written.
        unsafe { ptr::write_volatile(&raw mut (*raw).optlen, 0) };
    }
    true
}

/// Reports a refused option. Older kernels do not tell this hook who calls, so it names who made
/// the socket.
#[inline(always)]
fn report(ctx: &SockoptContext, level: u32, name: u32) {
    let raw = ctx.sockopt;
    // SAFETY: The kernel passes a valid context.
    let sk = unsafe { ptr::read_volatile(&raw const (*raw).__bindgen_anon_1.sk) };
    if sk.is_null() {
        return;
    }
    // SAFETY: The socket of a context is readable.
    let family = unsafe { ptr::read_volatile(&raw const (*sk).family) };
    // SAFETY: As above.
    let kind = unsafe { ptr::read_volatile(&raw const (*sk).type_) };
    // SAFETY: As above.
    let protocol = unsafe { ptr::read_volatile(&raw const (*sk).protocol) };
    refusal::report(&Refusal {
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
