//! HTTP/1 heads, read by two parsers: what boundary's front takes, the other takes, and both find
//! the same end.

#![no_main]

use boundary::proxy::fuzzing::head;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(length) = head(bytes) else { return };
    let mut fields = [httparse::EMPTY_HEADER; 512];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => assert_eq!(end, length),
        other => panic!("taken, and {other:?} elsewhere"),
    }
    // Nothing before the end decides otherwise.
    assert_eq!(head(&bytes[..length]), Some(length));
    assert_eq!(head(&bytes[..length - 1]), None);
});
