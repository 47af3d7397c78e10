//! The kernel's replies over netlink: read to the end without reading beyond it.

#![no_main]

use boundary::jail::nsjail::fuzzing::values;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert!(values(bytes) <= bytes.len());
});
