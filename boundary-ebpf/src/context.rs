//! Fields of the kernel's contexts, read and written whole and volatile.
//!
//! The compiler would merge neighbouring accesses, or compute an address into the context and use
//! that, and the verifier refuses both.

/// Reads one field behind a raw pointer that the kernel passed.
macro_rules! read {
    ($raw:expr, $($field:tt)+) => {{
        let raw = $raw;
        // SAFETY: The kernel passes valid pointers, and the verifier checks every field.
        unsafe { ::core::ptr::read_volatile(&raw const (*raw).$($field)+) }
    }};
}

/// Writes one field behind a raw pointer that the kernel passed.
macro_rules! write {
    ($raw:expr, $value:expr, $($field:tt)+) => {{
        let (raw, value) = ($raw, $value);
        // SAFETY: The kernel passes valid pointers, and the verifier checks every field.
        unsafe { ::core::ptr::write_volatile(&raw mut (*raw).$($field)+, value) }
    }};
}

pub(crate) use {read, write};
