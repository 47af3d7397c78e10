//! Messages as protocol buffers write them, straight into bytes.
//!
//! Why the library's own way is not taken: docs/decisions/0013-logs-written-by-hand.md.
//!
//! *Standing*: whoever writes for a collector or an agent says what the fields are. *Never*: knows a
//! field's meaning.

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

/// How many bytes a number takes.
pub(super) fn varint_length(number: u64) -> usize {
    let bits = u64::BITS - (number | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// How many bytes a field of so many bytes takes with what it begins with.
pub(super) fn field_length(content: usize) -> usize {
    1 + varint_length(content as u64) + content
}

/// A message that is being written.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// One that goes on where bytes end.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Its bytes so far.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its bytes, when it is whole.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The same, for whoever has fields that are written already.
    pub(super) fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.0
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

    /// A field that is a number with a sign; none where it is nothing, as the protocol's third form
    /// has it.
    pub(super) fn signed(&mut self, field: u8, number: i64) {
        if number != 0 {
            self.number(field, number.cast_unsigned());
        }
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
        self.head(field, message.len());
        self.0.extend_from_slice(message);
    }

    /// The beginning of a field of so many bytes, which follow.
    pub(super) fn head(&mut self, field: u8, length: usize) {
        self.key(field, Kind::Bytes);
        self.varint(length as u64);
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

    use super::{Message, field_length, varint_length};

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

    #[test]
    fn a_length_is_how_much_is_written() {
        for number in (0..64).map(|bit| 1_u64 << bit).flat_map(|it| [it - 1, it]).chain([u64::MAX])
        {
            let mut message = Message::default();
            message.number(1, number);
            assert_eq!(message.bytes().len(), 1 + varint_length(number), "{number}");
        }
        for length in [0, 1, 127, 128, 16_383, 16_384] {
            let mut message = Message::default();
            message.message(1, &vec![0; length]);
            assert_eq!(message.bytes().len(), field_length(length));
        }
    }
}
