//! Memory: how much there is, and what nobody uses, given back to the system.

#![expect(unsafe_code, reason = "whoever holds the memory is asked for it")]

#[cfg(target_env = "musl")]
use std::ffi::CStr;
use std::fs;

use nix::unistd::{SysconfVar, sysconf};

/// How many bytes of this process are resident, in proc(5).
pub fn resident() -> Option<usize> {
    let pages: usize =
        fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    let size = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    pages.checked_mul(usize::try_from(size).ok()?)
}

/// Gives back what was freed. Most of it is kept else, for whoever asks next.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, holds the library's own locks, and leaves what is in use alone.
    let _whether_any = unsafe { libc::malloc_trim(0) };
    #[cfg(target_env = "musl")]
    {
        /// All arenas at once: `MALLCTL_ARENAS_ALL` (jemalloc(3), 5.3).
        const PURGE: &CStr = c"arena.4096.purge";
        let none = std::ptr::null_mut();
        // SAFETY: the name ends in a nought and is only read. Nothing is asked for and nothing is given,
        // which is what no pointers mean.
        let _whether_any = unsafe {
            tikv_jemalloc_sys::mallctl(PURGE.as_ptr(), none, std::ptr::null_mut(), none, 0)
        };
    }
}
