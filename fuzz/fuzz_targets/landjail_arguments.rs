//! What the arguments of a waiting call name or point to: whom it signals, and addresses and messages, read
//! from memory that its owner filled; and what procfs tells of a process that named itself.

#![no_main]

use boundary::jail::landjail::fuzzing::{address, aim, message, process};
use libfuzzer_sys::fuzz_target;

/// A call that signals: which, its first arguments, and whose it is.
type Signal = (u8, [i32; 2], u32);

/// A process: its name, its numbers and when it started; and any text.
type Process<'a> = (&'a [u8], [u32; 4], u64, &'a str);

type Memory<'a> = (&'a [u8], u64, Vec<u8>, (u16, u32), Vec<(u16, u16)>, &'a [u8]);

fuzz_target!(|made: (Memory<'_>, Signal, Process<'_>)| {
    let ((bytes, length, mut memory, name, mut parts, sent), signal, named) = made;
    aim(signal.0, signal.1, signal.2);
    process(named.0, named.1, named.2, named.3);
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
