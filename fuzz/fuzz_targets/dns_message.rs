//! DNS messages: an answer is a message with the question's number, and never one to an answer.

#![no_main]

use std::cell::LazyCell;

use boundary::dns::Resolver;
use boundary::proxy::fuzzing::resolver;
use hickory_proto::op::{Message, MessageType};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static RESOLVER: LazyCell<Resolver> = LazyCell::new(|| resolver(&["domain=a.example"]));
}

fuzz_target!(|bytes: &[u8]| {
    RESOLVER.with(|resolver| {
        let Some(answer) = resolver.answer(bytes, None) else { return };
        assert_eq!(answer.get(..2), bytes.get(..2), "another's number");
        let answer = Message::from_vec(&answer).expect("an answer is a message");
        assert_eq!(answer.metadata.message_type, MessageType::Response);
    });
});
