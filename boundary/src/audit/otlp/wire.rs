//! Messages as protocol buffers write them, straight into bytes.
//!
//! Why the library's own way is not taken: docs/decisions/0013-logs-written-by-hand.md.
//!
//! *Standing*: [`super::log`] and [`super::request`] say what the fields are. *Never*: knows a field's
//! meaning.

/// How a field's content is told apart on the wire.
#[derive(Clone, Copy)]
enum Kind {
    /// A number in as many bytes as it takes.
    Number = 0,
    /// A number in eight bytes.
    Fixed = 1,
    /// So many bytes.
    Bytes = 2,
}

/// A message that is being written.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// Its bytes so far.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its bytes, when it is whole.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Begins another in its place.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// A field that is a number.
    pub(super) fn number(&mut self, field: u8, number: u64) {
        self.key(field, Kind::Number);
        self.varint(number);
    }

    /// A field that is a number in eight bytes.
    pub(super) fn fixed(&mut self, field: u8, number: u64) {
        self.key(field, Kind::Fixed);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// A field that is text.
    pub(super) fn text(&mut self, field: u8, text: &str) {
        self.message(field, text.as_bytes());
    }

    /// A field that is a message.
    pub(super) fn message(&mut self, field: u8, message: &[u8]) {
        self.key(field, Kind::Bytes);
        self.varint(message.len() as u64);
        self.0.extend_from_slice(message);
    }

    /// What a field begins with. None that is written here has a number above 15.
    fn key(&mut self, field: u8, kind: Kind) {
        self.0.push(field << 3 | kind as u8);
    }

    /// A number, seven bits in a byte, the lowest first.
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(0x80 | (number & 0x7f) as u8);
            number >>= 7;
        }
        self.0.push((number & 0x7f) as u8);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::Message;

    /// A message in the words of the library.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Known {
        #[prost(uint64, tag = "1")]
        number: u64,
        #[prost(fixed64, tag = "11")]
        fixed: u64,
        #[prost(string, tag = "3")]
        text: String,
        #[prost(message, optional, boxed, tag = "15")]
        inner: Option<Box<Self>>,
    }

    fn written(known: &Known) -> Message {
        let mut message = Message::default();
        message.number(1, known.number);
        message.fixed(11, known.fixed);
        message.text(3, &known.text);
        if let Some(inner) = &known.inner {
            message.message(15, written(inner).bytes());
        }
        message
    }

    #[test]
    fn what_is_written_is_what_the_library_reads() {
        for number in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let text = "ä".repeat(usize::try_from(number.min(20_000)).unwrap());
            let inner = Known { number, fixed: u64::MAX - number, text, inner: None };
            let known = Known { inner: Some(Box::new(inner)), ..Known::default() };
            assert_eq!(Known::decode(written(&known).bytes()).unwrap(), known);
        }
    }
}
