//! A reader of protobuf's wire format, which is not the one that wrote it.

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// A number (wire type 0).
    Number(u64),
    /// Text, or a message (wire type 2).
    Bytes(&'a [u8]),
}

/// The fields of a message, in their order. Panics where there is something else.
pub fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = number(&mut bytes);
        let field = match key & 7 {
            0 => Field::Number(number(&mut bytes)),
            2 => {
                let length = usize::try_from(number(&mut bytes)).expect("a length");
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(value)
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, field));
    }
    found
}

/// A number of base 128, the lowest digits first.
fn number(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (digit, rest) = bytes.split_first().expect("a number ends");
        *bytes = rest;
        value |= u64::from(digit & 0x7f) << shift;
        if digit & 0x80 == 0 {
            return value;
        }
    }
    panic!("a number of more than 64 bits")
}
