//! cgroup/dev: opens what `boundary_common::device` allows.
//!
//! Refusals are not reported: programs probe for devices all day, and it is no network.

use aya_ebpf::programs::DeviceContext;
use boundary_common::device::is_allowed;

use crate::context::read;

/// Judges a device by its kind and numbers, whatever is to be done with it.
#[inline(always)]
pub(crate) fn open(ctx: &DeviceContext) -> bool {
    let raw = ctx.device;
    let access = read!(raw, access_type);
    let major = read!(raw, major);
    let minor = read!(raw, minor);
    is_allowed(access, major, minor)
}
