//! Fields of what the kernel passes and keeps, read and written whole and volatile.
//!
//! In a context the compiler would merge neighbouring accesses, or compute an address and use that,
//! and the verifier refuses both. In a record it would fill with zeros by a loop, which the
//! verifier follows round by round.

/// Reads one field behind a raw pointer that the kernel gave, or that is a whole local.
macro_rules! read {
    ($raw:expr, $($field:tt)+) => {{
        let raw = &raw const *$raw;
        // SAFETY: The pointer is valid, and the verifier checks every field.
        unsafe { ::core::ptr::read_volatile(&raw const (*raw).$($field)+) }
    }};
}

/// Writes one field behind a raw pointer that the kernel gave, or that is a whole local.
macro_rules! write {
    ($raw:expr, $value:expr, $($field:tt)+) => {{
        let (raw, value) = ($raw, $value);
        // SAFETY: The pointer is valid, and the verifier checks every field.
        unsafe { ::core::ptr::write_volatile(&raw mut (*raw).$($field)+, value) }
    }};
}

pub(crate) use {read, write};
