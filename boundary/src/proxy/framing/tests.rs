//! Heads and chunks, row by row.

use super::*;

fn framed(text: &str) -> Result<Option<(usize, Framing)>, Fault> {
    let limits = Limits { head_bytes: 1000, target_bytes: 900, headers: 10, ..Limits::default() };
    read(text.as_bytes(), &limits, |_| {})
}

/// The framing of a POST with these fields.
fn post(fields: &str) -> Result<Framing, Fault> {
    framed(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).map(|whole| whole.unwrap().1)
}

#[test]
fn a_head_ends_at_its_empty_line() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /";
    assert_eq!(framed(text), Ok(Some((text.len() - 5, Framing::Length(0)))));
    assert_eq!(framed("\r\nGET / HTTP/1.0\r\n\r\n"), Ok(Some((20, Framing::Length(0)))));
    for end in 0..text.len() - 5 {
        let part = text.get(..end).unwrap();
        assert_eq!(framed(part), Ok(None), "{end}");
    }
}

#[test]
fn the_length_of_a_body_is_said_once() {
    assert_eq!(post("Content-Length: 5\r\n"), Ok(Framing::Length(5)));
    assert_eq!(post("content-length:\t5 \r\n"), Ok(Framing::Length(5)));
    assert_eq!(post("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
    let unclear = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: \r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ];
    for fields in unclear {
        assert!(post(fields).is_err(), "{fields:?} is {:?}", post(fields));
    }
    assert_eq!(
        framed("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Err(Fault::Framing)
    );
    assert_eq!(framed("CONNECT a:1 HTTP/1.1\r\nContent-Length: 5\r\n\r\n"), Err(Fault::Framing));
}

#[test]
fn lines_have_one_form() {
    let malformed = [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\n\tfirst: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost\r\n\r\n",
        "GET / HTTP/1.1\r\n: a\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nX: \u{1b}[2J\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "GET /a b HTTP/1.1\r\n\r\n",
        "GET /\ta HTTP/1.1\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/0.9\r\n\r\n",
        "GET / HTTP/1.2\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET / http/1.1\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ];
    for text in malformed {
        assert_eq!(framed(text), Err(Fault::Malformed), "{text:?}");
    }
}

#[test]
fn white_space_around_a_value_is_spaces_and_tabs() {
    assert_eq!(post("Content-Length: \t3 \t\r\n"), Ok(Framing::Length(3)));
    for other in ["\u{c}3", "3\u{c}", "\u{b}3"] {
        let fields = format!("Content-Length:{other}\r\n");
        assert_eq!(post(&fields), Err(Fault::Malformed), "{other:?}");
    }
}

#[test]
fn a_head_has_bounds() {
    let many = "X: y\r\n".repeat(11);
    assert_eq!(framed(&format!("GET / HTTP/1.1\r\n{many}\r\n")), Err(Fault::TooMany));
    let long = "a".repeat(1000);
    assert_eq!(framed(&format!("GET /{long} HTTP/1.1\r\n\r\n")), Err(Fault::TargetTooLong));
    assert_eq!(framed(&format!("GET /{long}")), Err(Fault::TargetTooLong));
    assert_eq!(framed(&format!("GET / HTTP/1.1\r\nX: {long}")), Err(Fault::TooLong));
    assert_eq!(framed(&format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n")), Err(Fault::TooLong));
}

#[test]
fn what_may_switch_is_told_apart() {
    for connect in ["CONNECT", "connect", "Connect"] {
        let head = format!("{connect} a:1 HTTP/1.1\r\n");
        assert_eq!(framed(&(head.clone() + "\r\n")).unwrap().unwrap().1, Framing::Switch);
        let fields = ["Content-Length: 1", "Transfer-Encoding: chunked"];
        for field in fields {
            assert_eq!(framed(&format!("{head}{field}\r\n\r\n")), Err(Fault::Framing));
        }
    }
    let upgrade = "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(framed(upgrade).unwrap().unwrap().1, Framing::Switch);
}

/// How much of the text a chunked body takes, byte by byte and at once.
fn chunked(text: &str) -> Result<usize, Fault> {
    let mut at_once = Chunks::new(10_000);
    let used = at_once.advance(text.as_bytes());
    let mut bytewise = Chunks::new(10_000);
    let mut sum = 0;
    for byte in text.bytes() {
        match bytewise.advance(&[byte]) {
            Ok(used) => sum += used,
            Err(fault) => {
                assert_eq!(used, Err(fault), "at once and byte by byte must agree");
                return Err(fault);
            }
        }
    }
    assert_eq!(used, Ok(sum), "at once and byte by byte must agree");
    assert_eq!(at_once.is_over(), bytewise.is_over());
    assert!(at_once.is_over(), "{text:?} is not whole");
    used
}

#[test]
fn chunks_end_where_they_say() {
    let rows = [
        "0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
        "0A\r\n0123456789\r\n000\r\n\r\n",
        "3;a=\"b\";c\r\nabc\r\n0;d\r\nX-Sum: 1\r\nY: 2\r\n\r\n",
        "2\r\n\r\n\r\n0\r\n\r\n",
    ];
    for text in rows {
        assert_eq!(chunked(text), Ok(text.len()), "{text:?}");
        assert_eq!(chunked(&format!("{text}GET / HTTP/1.1\r\n")), Ok(text.len()), "{text:?}");
    }
}

#[test]
fn chunks_with_two_meanings_are_refused() {
    let rows = [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "-1\r\n",
        "\r\n",
        ";x\r\n",
        "10000000000000000\r\n",
        "ffffffffffffffffff\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "0\r\nX: 1\n\r\n",
        "0\r\n X: 1\r\n\r\n",
    ];
    for text in rows {
        assert!(Chunks::new(10_000).advance(text.as_bytes()).is_err(), "{text:?}");
    }
    let long = format!("3;{}\r\n", "a".repeat(LONGEST_SIZE_LINE));
    assert_eq!(Chunks::new(10_000).advance(long.as_bytes()), Err(Fault::TooLong));
    let many = format!("0\r\n{}", "X: y\r\n".repeat(MOST_TRAILERS / 6 + 1));
    assert_eq!(Chunks::new(10_000).advance(many.as_bytes()), Err(Fault::TooLong));
}

#[test]
fn white_space_behind_a_size_is_forgiven_an_answer_alone() {
    let rows = ["3 \r\nabc\r\n0\r\n\r\n", "3\t ;x=y\r\nabc\r\n0 \r\n\r\n"];
    for text in rows {
        let mut chunks = Chunks::of_answer(1);
        assert_eq!(chunks.advance(text.as_bytes()), Ok(text.len()), "{text:?}");
        assert!(chunks.is_over() && chunks.carried() == 3, "{text:?}");
        assert_eq!(Chunks::new(1).advance(text.as_bytes()), Err(Fault::Framing), "{text:?}");
    }
    for text in ["3 3\r\n", " 3\r\n", "3\u{c}\r\n", "3 \n", "3 \rx"] {
        let told = Chunks::of_answer(1).advance(text.as_bytes());
        assert_eq!(told, Err(Fault::Framing), "{text:?}");
    }
    let long = |length: usize| format!("3;{}\r\n", "a".repeat(length));
    let fine = long(LONGEST_SIZE_LINE_OF_ANSWER - 4);
    assert!(Chunks::of_answer(1).advance(fine.as_bytes()).is_ok());
    let fault = Chunks::of_answer(1).advance(long(LONGEST_SIZE_LINE_OF_ANSWER).as_bytes());
    assert_eq!(fault, Err(Fault::TooLong));
}

#[test]
fn trailers_have_as_many_fields_as_a_head() {
    let chunked = |fields: usize| format!("0\r\n{}\r\n", "X: y\r\n".repeat(fields));
    assert!(Chunks::new(10).advance(chunked(10).as_bytes()).is_ok());
    assert_eq!(Chunks::new(10).advance(chunked(11).as_bytes()), Err(Fault::TooMany));
}

#[test]
fn a_line_behind_the_last_chunk_is_a_field() {
    for made in [Chunks::new, Chunks::of_answer] {
        let told = |line: &str| made(9).advance(format!("0\r\n{line}\r\n\r\n").as_bytes());
        for line in ["X: y", "X:", "x-1: a b\t\u{e9}"] {
            assert!(told(line).is_ok(), "{line:?}");
        }
        for line in ["hello", "0", ": y", "a b: c", "X : y", " X: y", "\u{e9}: y"] {
            assert_eq!(told(line), Err(Fault::Framing), "{line:?}");
        }
    }
}
