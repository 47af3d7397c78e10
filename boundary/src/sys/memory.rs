//! Memory that nobody uses, given back to the system.

#![cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "the C library is asked for it"))]

/// Gives back what was freed. GNU's C library keeps the most of it else; others give it back by
/// themselves.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, holds the library's own locks, and leaves what is in use alone.
    let _whether_any = unsafe { libc::malloc_trim(0) };
}
