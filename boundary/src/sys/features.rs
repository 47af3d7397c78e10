//! What the kernel says that it has.
//!
//! *Never*: uses it.

#![expect(unsafe_code, reason = "system calls that neither std nor nix wraps")]

use nix::errno::Errno;

/// The version of Landlock that the kernel has (Linux 5.13 has the first).
pub fn landlock_abi() -> nix::Result<i64> {
    /// `LANDLOCK_CREATE_RULESET_VERSION` of linux/landlock.h.
    const VERSION: u32 = 1;
    let none: *const libc::c_void = std::ptr::null();
    // SAFETY: with this flag the call takes no structure.
    Errno::result(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, VERSION) })
}
