//! Answers of an upstream, whatever they are: a client reads the same of them by the short way as by
//! the long way, and never something that is no answer.

#![no_main]

use std::cell::LazyCell;

use boundary_fuzz::answers::{Oracle, read};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static ORACLE: LazyCell<Oracle> = LazyCell::new(Oracle::open);
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, answer)) = bytes.split_first() else { return };
    let is_head = first % 8 == 1;
    let method = if is_head { "HEAD" } else { "GET" };
    ORACLE.with(|oracle| {
        let short = oracle.ask(answer, method, "");
        let long = oracle.ask(answer, method, "TE: trailers\r\n");
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(
            read(&short, is_head),
            read(&long, is_head),
            "short {:?}, long {:?}",
            said(&short),
            said(&long)
        );
    });
});
