//! HTTP/1 through the whole pipeline: what a second reader finds at the origin was permitted,
//! request by request, at both doors.

#![no_main]

use std::cell::LazyCell;

use boundary::audit::Door;
use boundary_fuzz::Stage;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static STAGE: LazyCell<Stage> = LazyCell::new(Stage::open);
}

/// Stands for the origin's port in what is said: a number that changes from run to run.
const PORT: &[u8] = b"PORT";

fuzz_target!(|bytes: &[u8]| {
    let Some((door, said)) = bytes.split_first() else { return };
    STAGE.with(|stage| {
        let port = stage.scene.target().port().to_string();
        let mut text = Vec::with_capacity(said.len() + 16);
        let mut rest = said;
        while let Some(at) = rest.windows(PORT.len()).position(|window| window == PORT) {
            text.extend_from_slice(&rest[..at]);
            text.extend_from_slice(port.as_bytes());
            rest = &rest[at + PORT.len()..];
        }
        text.extend_from_slice(rest);
        let door = if door % 2 == 0 { Door::Redirect } else { Door::Explicit };
        stage.scene.say(door, &text);
        stage.judge();
    });
});
