//! cgroup/dev: opens what `boundary_common::device` allows.
//!
//! Refusals are not reported: programs probe for devices all day, and it is no network.

use core::ptr;

use aya_ebpf::programs::DeviceContext;
use boundary_common::device::is_allowed;

/// Judges a device by its kind and numbers, whatever is to be done with it.
#[inline(always)]
pub(crate) fn open(ctx: &DeviceContext) -> bool {
    let raw = ctx.device;
    // SAFETY: The kernel passes a valid context.
    let access = unsafe { ptr::read_volatile(&raw const (*raw).access_type) };
    // SAFETY: As above.
    let major = unsafe { ptr::read_volatile(&raw const (*raw).major) };
    // SAFETY: As above.
    let minor = unsafe { ptr::read_volatile(&raw const (*raw).minor) };
    is_allowed(access, major, minor)
}
