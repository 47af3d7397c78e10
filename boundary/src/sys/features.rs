//! What the kernel says that it has.
//!
//! *Never*: uses it.

#![expect(unsafe_code, reason = "system calls that neither std nor nix wraps")]

use std::ffi::CStr;
use std::mem::MaybeUninit;

use nix::errno::Errno;

/// The version of Landlock that the kernel has (Linux 5.13 has the first).
pub fn landlock_abi() -> nix::Result<i64> {
    /// `LANDLOCK_CREATE_RULESET_VERSION` of linux/landlock.h.
    const VERSION: u32 = 1;
    let none: *const libc::c_void = std::ptr::null();
    // SAFETY: with this flag the call takes no structure.
    Errno::result(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, VERSION) })
}

/// Whether something is mounted right there (`STATX_ATTR_MOUNT_ROOT`). A kernel that does not tell, one
/// before Linux 5.8, is believed that it is.
pub fn is_mount_point(path: &CStr) -> nix::Result<bool> {
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the name ends with a zero, and there is room for the whole structure.
    let told = unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, 0, stat.as_mut_ptr()) };
    Errno::result(told)?;
    // SAFETY: zeros are values of the structure.
    let stat = unsafe { stat.assume_init() };
    let is_told = stat.stx_attributes_mask & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0;
    Ok(!is_told || stat.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0)
}
