//! HTTP/2 frames from a client that knows beforehand that it is spoken: whatever arrives at the
//! origin was permitted.

#![no_main]

use std::cell::LazyCell;

use boundary::audit::Door;
use boundary_fuzz::Stage;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static STAGE: LazyCell<Stage> = LazyCell::new(Stage::open);
}

fuzz_target!(|bytes: &[u8]| {
    let said = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", bytes].concat();
    STAGE.with(|stage| {
        stage.scene.say(Door::Redirect, &said);
        stage.judge();
    });
});
