//! Streams that the library refuses without anybody being asked: each is on record, once.

use super::super::frames::{self, Field, Frames, block, frame};
use super::*;

/// What the last frame of a request says, where it is the first.
const WHOLE: u8 = frames::END_HEADERS | frames::END_STREAM;

/// The fields of a request for a path, and some more.
fn asking<'a>(authority: &'a str, path: &'a str, more: &[Field<'a>]) -> Vec<u8> {
    let fields: [Field<'_>; 4] = [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", authority.as_bytes()),
        (b":path", path.as_bytes()),
    ];
    block(&[&fields, more].concat())
}

/// A connection inside TLS, and whom it asks.
async fn begun(stage: &Stage, port: u16) -> (Frames<impl Stream>, String) {
    let stream = stage.connect().await.0;
    let client = greeted_with(stage, stream, "localhost", true, b"h2").await.unwrap();
    (Frames::begin(client.0).await, format!("localhost:{port}"))
}

/// How many of the decisions are refusals, by code, and how many are permits; there is nothing else.
async fn counted(stage: Stage) -> (usize, usize, usize) {
    let decisions = stage.decisions().await;
    let of = |start| decisions.iter().filter(|it| it.starts_with(start)).count();
    let (bad, over, yes) = (of("deny bad_request"), of("deny over_limit"), of("allow"));
    assert_eq!(bad + over + yes, decisions.len(), "{decisions:?}");
    (bad, over, yes)
}

#[tokio::test]
async fn a_head_that_the_library_refuses_is_on_record_once_and_its_neighbours_too() {
    let large = vec![b'x'; 70_000];
    let rows: [(&str, Vec<Field<'_>>, (usize, usize)); 5] = [
        ("/a b", vec![], (1, 0)),
        ("/", vec![(b"connection", b"close")], (1, 0)),
        ("/", vec![(b"transfer-encoding", b"chunked")], (1, 0)),
        ("/", vec![(b"content-length", b"1"), (b"content-length", b"2")], (1, 0)),
        ("/", vec![(b"x-large", &large)], (0, 1)),
    ];
    for (path, more, (bad, over)) in rows {
        for flags in [frames::END_HEADERS, WHOLE] {
            let origin = Origin2::fine().await;
            let stage = origin.stage(&origin.rule(""));
            let (mut frames, authority) = begun(&stage, origin.port()).await;
            let what = format!("{path} {:?}", more.first().map(|(name, _)| *name));
            let fine = block_of(&authority);
            // Before it, in one packet with it, and behind it.
            let streams = [(); 4].map(|()| frames.number());
            let refused = asking(&authority, path, &more);
            frames.client.say(frame(frames::HEADERS, WHOLE, streams[0], &fine)).await;
            assert_eq!(frames.hear(streams[0]).await.status, 200, "{what}");
            let both = [
                said(flags, streams[1], &refused),
                frame(frames::HEADERS, WHOLE, streams[2], &fine),
            ];
            frames.client.say(both.concat()).await;
            // The refusal may come before or behind the answer.
            assert_eq!(frames.hear(streams[2]).await.status, 200, "{what}");
            frames.client.say(frame(frames::HEADERS, WHOLE, streams[3], &fine)).await;
            assert_eq!(frames.hear(streams[3]).await.status, 200, "{what}");
            drop(frames);
            assert_eq!(counted(stage).await, (bad, over, 3), "{what} {flags}");
        }
    }
}

/// The fields of a request that is permitted.
fn block_of(authority: &str) -> Vec<u8> {
    asking(authority, "/fine", &[])
}

/// Fields in as many frames as they need.
fn said(flags: u8, stream: u32, fields: &[u8]) -> Vec<u8> {
    let mut pieces = fields.chunks(16_000).peekable();
    let (mut said, mut kind) = (Vec::new(), frames::HEADERS);
    while let Some(piece) = pieces.next() {
        let ends = if pieces.peek().is_none() { frames::END_HEADERS } else { 0 };
        let flags = if kind == frames::HEADERS { flags & frames::END_STREAM } else { 0 };
        said.extend(frame(kind, flags | ends, stream, piece));
        kind = frames::CONTINUATION;
    }
    said
}

#[tokio::test]
async fn a_refusal_is_on_record_as_it_happens_and_for_a_client_that_leaves_at_once() {
    let origin = Origin2::fine().await;
    let stage = origin.stage(&origin.rule(""));
    let (mut frames, authority) = begun(&stage, origin.port()).await;
    let stream = frames.number();
    let bad = asking(&authority, "/a b", &[]);
    frames.client.say(frame(frames::HEADERS, WHOLE, stream, &bad)).await;
    assert_eq!(frames.hear(stream).await.reset, Some(1));
    given(&stage, 1).await;
    let (mut leaving, _) = begun(&stage, origin.port()).await;
    let fine = block_of(&authority);
    let both = [
        frame(frames::HEADERS, WHOLE, 1, &bad),
        frame(frames::HEADERS, WHOLE, 3, &fine),
        frame(frames::HEADERS, WHOLE, 5, &bad),
    ];
    leaving.client.say(both.concat()).await;
    soon(leaving.client.0.shutdown()).await.unwrap();
    leaving.client.rest().await;
    assert_eq!(counted(stage).await, (3, 0, 1));
}

/// Waits until so many decisions are on record.
async fn given(stage: &Stage, count: usize) {
    let is_so = || {
        stage.recorder.flush(DEADLINE);
        let records = stage.records.decisions();
        records.iter().filter(|record| record.get("duration_ms").is_none()).count() >= count
    };
    soon(async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_goes_wrong_with_a_request_that_was_given_is_no_second_refusal() {
    let origin = Origin2::new(&["h2"], |request: Request<Incoming>| async {
        drop(request.into_body().collect().await);
        Response::new(content("ok"))
    })
    .await;
    let stage = origin.stage(&origin.rule(""));
    let (mut frames, authority) = begun(&stage, origin.port()).await;
    // More than it announced, in the same packet and in another.
    let announced = asking(&authority, "/more", &[(b"content-length", b"1")]);
    for (is_one, count) in [(true, 1), (false, 2)] {
        let stream = frames.number();
        let head = frame(frames::HEADERS, frames::END_HEADERS, stream, &announced);
        let data = frame(frames::DATA, 0, stream, b"more than one");
        if is_one {
            frames.client.say([head, data].concat()).await;
            given(&stage, count).await;
        } else {
            frames.client.say(head).await;
            given(&stage, count).await;
            frames.client.say(data).await;
        }
        assert_eq!(frames.hear(stream).await.reset, Some(1));
    }
    // Reset by the client, before anybody looks and afterwards.
    let stream = frames.number();
    let open = frame(frames::HEADERS, frames::END_HEADERS, stream, &block_of(&authority));
    let reset = frame(frames::RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    frames.client.say([open, reset].concat()).await;
    let stream = frames.number();
    frames.client.say(frame(frames::HEADERS, WHOLE, stream, &block_of(&authority))).await;
    assert_eq!(frames.hear(stream).await.status, 200);
    drop(frames);
    assert_eq!(counted(stage).await, (0, 0, 4));
}

#[tokio::test]
async fn streams_beyond_the_limit_are_on_record() {
    let origin = Origin2::new(&["h2"], |_| std::future::pending::<Response<Content>>()).await;
    let setting = Setting::to_name("localhost", origin.port(), &origin.rule(""));
    let limits = Limits { h2_streams: 2, ..setting.limits.clone() };
    let stage = origin.secure.stage(Setting { limits, ..setting });
    let (mut frames, authority) = begun(&stage, origin.port()).await;
    let fine = block_of(&authority);
    let streams = [1, 3, 5, 7, 9].map(|stream| frame(frames::HEADERS, WHOLE, stream, &fine));
    frames.client.say(streams.concat()).await;
    for stream in [5, 7, 9] {
        assert_eq!(frames.hear(stream).await.reset, Some(7), "REFUSED_STREAM");
    }
    drop(frames);
    assert_eq!(counted(stage).await, (0, 3, 2));
}
