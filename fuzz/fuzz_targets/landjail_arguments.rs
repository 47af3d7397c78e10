//! What the arguments of a waiting call point to: addresses and messages, read from memory that its
//! owner filled.

#![no_main]

use boundary::jail::landjail::fuzzing::{address, message};
use libfuzzer_sys::fuzz_target;

type Made<'a> = (&'a [u8], u64, Vec<u8>, (u16, u32), Vec<(u16, u16)>, &'a [u8]);

fuzz_target!(|made: Made<'_>| {
    let (bytes, length, mut memory, name, mut parts, sent) = made;
    address(bytes, length);
    // Places and lengths that lie in the memory more often than not.
    let size = u16::try_from(memory.len()).unwrap_or(u16::MAX).max(1);
    let name = (name.0 % size, if name.1 & 1 == 0 { (name.1 >> 1) % 140 } else { name.1 });
    for (at, length) in &mut parts {
        *at %= size;
        *length %= (size - *at).max(1);
    }
    message(&mut memory, name, &parts, sent.to_vec());
});
