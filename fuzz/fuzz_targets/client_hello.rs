//! First bytes: looked at without end, panic or unbounded reading, whatever they are.

#![no_main]

use std::cell::LazyCell;

use boundary::proxy::fuzzing::peeked;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;

thread_local! {
    static RUNTIME: LazyCell<Runtime> = LazyCell::new(boundary_fuzz::runtime);
}

fuzz_target!(|bytes: &[u8]| {
    RUNTIME.with(|runtime| peeked(runtime, bytes));
});
