//! HTTP/2 frame by frame: a client that says what no library would.
//!
//! Fields go out as literals that no table remembers, and it asks for the same: so the status is
//! the first field of an answer, and everything else that a test needs stands in the body.

use super::*;

/// One field.
pub(super) type Field<'a> = (&'a [u8], &'a [u8]);

/// Kinds of frames.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// The flags.
pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// What a client says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// No table of ours, windows that no test fills.
const OWN_SETTINGS: &[u8] = &[0, 1, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff];

/// A frame as bytes.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as a block of literals.
pub(super) fn block(fields: &[Field<'_>]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            push_length(text.len(), &mut block);
            block.extend_from_slice(text);
        }
    }
    block
}

/// A length in seven bits, or more (RFC 7541 §5.1).
fn push_length(length: usize, block: &mut Vec<u8>) {
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// A frame that came.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// What came back on a stream. The status 0 is none: the stream was reset, or the connection ended.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// The error that the stream was reset with.
    pub(super) reset: Option<u32>,
    /// The error that the connection was ended with.
    pub(super) goaway: Option<u32>,
}

/// A connection that speaks HTTP/2.
pub(super) struct Frames<S> {
    pub(super) client: Client<S>,
    next: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    /// Says the preface and our settings.
    pub(super) async fn begin(stream: S) -> Self {
        let mut client = Client(stream);
        client.say([PREFACE, &frame(SETTINGS, 0, 0, OWN_SETTINGS)].concat()).await;
        Self { client, next: 1 }
    }

    /// Reads what comes on a connection that somebody else began.
    pub(super) fn reading(stream: S) -> Self {
        Self { client: Client(stream), next: 1 }
    }

    /// The number of the next stream.
    pub(super) fn number(&mut self) -> u32 {
        let number = self.next;
        self.next += 2;
        number
    }

    /// Asks a question, and reads what comes of it.
    pub(super) async fn ask(&mut self, fields: &[Field<'_>], body: &[u8]) -> Heard {
        let stream = self.number();
        let end = if body.is_empty() { END_STREAM } else { 0 };
        let mut said = frame(HEADERS, END_HEADERS | end, stream, &block(fields));
        if !body.is_empty() {
            said.extend(frame(DATA, END_STREAM, stream, body));
        }
        self.client.say(said).await;
        self.hear(stream).await
    }

    /// Reads what comes of a stream.
    pub(super) async fn hear(&mut self, stream: u32) -> Heard {
        let mut heard = Heard::default();
        while let Some(frame) = self.frame().await {
            match frame.kind {
                GOAWAY => heard.goaway = Some(number(&frame.payload[4..8])),
                HEADERS if frame.stream == stream && heard.status == 0 => {
                    heard.status = status(&frame.payload);
                }
                DATA if frame.stream == stream => heard.body.extend(&frame.payload),
                RST_STREAM if frame.stream == stream => {
                    heard.reset = Some(number(&frame.payload));
                    return heard;
                }
                _ => {}
            }
            let ends = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
            if frame.stream == stream && ends {
                return heard;
            }
        }
        heard
    }

    /// Reads to the end of the connection, and gives the error that it was ended with.
    pub(super) async fn goaway(&mut self) -> Option<u32> {
        let mut last = None;
        while let Some(frame) = self.frame().await {
            if frame.kind == GOAWAY {
                last = Some(number(&frame.payload[4..8]));
            }
        }
        last
    }

    /// The next frame, or the end. Settings are acknowledged.
    pub(super) async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        soon(self.client.0.read_exact(&mut head)).await.ok()?;
        let length = usize::try_from(number(&[0, head[0], head[1], head[2]])).unwrap();
        let mut payload = vec![0; length];
        soon(self.client.0.read_exact(&mut payload)).await.ok()?;
        let (kind, flags, stream) = (head[3], head[4], number(&head[5..]));
        if kind == SETTINGS && flags & ACK == 0 {
            // Whether it is still wanted does not matter here.
            drop(self.client.0.write_all(&frame(SETTINGS, ACK, 0, &[])).await);
        }
        Some(Frame { kind, flags, stream, payload })
    }
}

/// Four bytes as a number.
fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// The status at the head of an answer's block.
fn status(block: &[u8]) -> u16 {
    // A change of the table's size may come first.
    let block = block.iter().position(|byte| byte & 0xe0 != 0x20).map_or(block, |at| &block[at..]);
    match *block {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8a, ..] => 206,
        [0x8b, ..] => 304,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        // A literal with the name from the table: its value, plain or in Huffman's code.
        [0x08 | 0x48 | 0x18, length, ref value @ ..] => {
            let value = &value[..usize::from(length & 0x7f)];
            let text = if length & 0x80 == 0 { value.to_vec() } else { digits(value) };
            String::from_utf8(text).unwrap().parse().unwrap()
        }
        _ => panic!("no status in {block:x?}"),
    }
}

/// Three digits in Huffman's code (RFC 7541, appendix B): five bits for 0 to 2, six for the others.
fn digits(coded: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> =
        coded.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let value = |bits: &[u8]| bits.iter().fold(0, |sum, bit| sum * 2 + bit);
    let (mut at, mut text) = (0, Vec::new());
    while text.len() < 3 {
        let short = value(&bits[at..at + 5]);
        if short < 3 {
            text.push(b'0' + short);
            at += 5;
        } else {
            text.push(b'3' + value(&bits[at..at + 6]) - 0b01_1001);
            at += 6;
        }
    }
    text
}

#[test]
fn a_status_is_read_however_it_is_written() {
    assert_eq!(status(&[0x88]), 200);
    assert_eq!(status(&[0x20, 0x48, 3, b'4', b'0', b'3']), 403);
    // 4 0 3 is 011010 00000 011001 and ones to the end.
    assert_eq!(status(&[0x48, 0x83, 0b0110_1000, 0b0000_1100, 0b1111_1111]), 403);
}
