//! The one spelling of a request: reading it twice changes nothing.

#![no_main]

use boundary::rules::{Host, Intent, Scheme};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|parts: (&str, &str, u16, &str, bool)| {
    let (method, authority, port, target, is_tls) = parts;
    let scheme = if is_tls { Scheme::Https } else { Scheme::Http };
    let Ok((host, named)) = Host::parse_authority(authority) else { return };
    let Ok(intent) = Intent::http(scheme, method, host, named.unwrap_or(port), target) else {
        return;
    };
    let (host, port) =
        Host::parse_authority(&intent.authority()).expect("what is sent can be read");
    let port = port.or(scheme.default_port()).expect("http has one");
    let target = intent.path_and_query().expect("a request has one");
    let method = intent.method().expect("a request has one").as_str();
    let again = Intent::http(scheme, method, host, port, &target).expect("what is sent is taken");
    assert_eq!(again, intent);
    // What any server would make of it stays below it.
    let path = intent.path().expect("a request has one");
    assert!(!path.split('/').any(|segment| segment == "." || segment == ".."), "{path}");
});
