//! Frames by the thousand (escape F-13): that connection is asked for calm and ended, on record, and
//! its neighbour is served.

use super::frames::{self, Frames, block, frame};
use super::*;

const CALM: u32 = 11;
const FLOW_CONTROL: u32 = 3;

/// The fields of a request that no rule permits.
fn fields() -> Vec<u8> {
    let fields: [frames::Field<'_>; 4] = [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"denied.example"),
        (b":path", b"/"),
    ];
    block(&fields)
}

/// Says all of it while reading, and gives the error that the connection ended with and what is on
/// record.
async fn flood(limits: Limits, pieces: Vec<Vec<u8>>) -> (Option<u32>, Vec<String>) {
    let origin = Scripted::fine().await;
    let stage = Setting { limits, ..Setting::redirected(origin.address, &origin.rule("")) }.start();
    let Frames { client, .. } = Frames::begin(stage.connect().await.0).await;
    let (read, mut write) = client.0.into_split();
    let pour = async {
        for piece in pieces {
            if write.write_all(&piece).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut reader = Frames::reading(tokio::io::join(read, tokio::io::sink()));
    let told = tokio::select! {
        told = reader.goaway() => told,
        () = pour => unreachable!(),
    };
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", origin.authority());
    assert_eq!(stage.connect().await.ask(request).await.status, 200, "the neighbour is served");
    let refused =
        stage.decisions().await.into_iter().filter(|it| it.starts_with("deny over_limit"));
    (told, refused.collect())
}

#[tokio::test]
async fn frames_that_carry_nothing_have_an_end() {
    let limits = Limits { h2_frames: 200, ..Limits::default() };
    let kinds = [
        frame(frames::PING, 0, 0, &[0; 8]),
        frame(frames::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]),
        frame(frames::PRIORITY, 0, 1, &[0, 0, 0, 0, 1]),
        frame(frames::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(0xfa, 0, 0, b"unknown"),
    ];
    for kind in kinds {
        let (told, refused) = flood(limits.clone(), vec![kind.repeat(1000); 20]).await;
        assert_eq!((told, refused.len()), (Some(CALM), 1), "{kind:?} {refused:?}");
    }
}

#[tokio::test]
async fn streams_that_are_reset_at_once_have_an_end() {
    let limits = Limits { h2_resets: 50, ..Limits::default() };
    let pieces = (0..2000).map(|at| {
        let stream = at * 2 + 1;
        let open =
            frame(frames::HEADERS, frames::END_HEADERS | frames::END_STREAM, stream, &fields());
        [open, frame(frames::RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    });
    let (told, refused) = flood(limits, pieces.collect()).await;
    assert_eq!((told, refused.len()), (Some(CALM), 1), "{refused:?}");
}

#[tokio::test]
async fn fields_without_an_end_have_one() {
    let begin = frame(frames::HEADERS, 0, 1, &fields());
    let more = frame(frames::CONTINUATION, 0, 1, &block(&[(b"x", &[b'y'; 1000])]));
    let (told, refused) = flood(Limits::default(), vec![begin.clone(), more.repeat(2000)]).await;
    assert_eq!((told, refused.len()), (Some(CALM), 1), "{refused:?}");
    let nothing = frame(frames::CONTINUATION, 0, 1, b"").repeat(20_000);
    let (told, refused) = flood(Limits::default(), vec![begin.clone(), nothing]).await;
    assert_eq!((told, refused.len()), (Some(CALM), 1), "{refused:?}");
    // And what says no more has its time.
    let limits = Limits { head_time: Duration::from_millis(100), ..Limits::default() };
    let (told, refused) = flood(limits, vec![begin]).await;
    assert_eq!((told, refused.len()), (Some(CALM), 1), "{refused:?}");
}

#[tokio::test]
async fn a_window_past_its_bound_is_an_error() {
    let update = frame(frames::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]);
    let (told, _) = flood(Limits::default(), vec![update.repeat(2)]).await;
    assert_eq!(told, Some(FLOW_CONTROL));
}

#[tokio::test]
async fn fields_that_swell_are_too_long_for_their_stream_or_their_connection() {
    // One field of 4,000 bytes goes into the table, and then a byte stands for all of it.
    let swollen = |times: usize| {
        let field = [&[0x40, 1, b'x', 127, 0xa1, 0x1e][..], &[b'y'; 4000], &vec![0xbe; times]];
        [fields(), field.concat()].concat()
    };
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let mut frames = Frames::begin(stage.connect().await.0).await;
    let flags = frames::END_HEADERS | frames::END_STREAM;
    let stream = frames.number();
    frames.client.say(frame(frames::HEADERS, flags, stream, &swollen(18))).await;
    assert_eq!(frames.hear(stream).await.status, 431);
    let stream = frames.number();
    frames.client.say(frame(frames::HEADERS, flags, stream, &fields())).await;
    let status = frames.hear(stream).await.status;
    assert!(matches!(status, 403 | 421), "the next one is answered: {status}");
    let stream = frames.number();
    frames.client.say(frame(frames::HEADERS, flags, stream, &swollen(8000))).await;
    assert_eq!(frames.goaway().await, Some(CALM));
    let decisions = stage.decisions().await;
    assert!(decisions.iter().any(|it| it.starts_with("deny over_limit")), "{decisions:?}");
}

#[tokio::test]
async fn with_as_much_memory_as_there_may_be_neither_streams_nor_connections_are_taken() {
    let origin = Scripted::fine().await;
    let held = Arc::<AtomicUsize>::default();
    let limits = Limits { memory: 1000, ..Limits::default() };
    let setting = Setting::redirected(origin.address, &origin.rule(""));
    let stage = Setting { limits, held: Arc::clone(&held), ..setting }.start();
    let mut frames = Frames::begin(stage.connect().await.0).await;
    let flags = frames::END_HEADERS | frames::END_STREAM;
    let mut told = Vec::new();
    for number in 0..20 {
        let stream = frames.number();
        frames.client.say(frame(frames::HEADERS, flags, stream, &fields())).await;
        told.push(frames.hear(stream).await.status);
        // The connection has been taken when its first stream was answered.
        if number == 0 {
            held.store(1001, Ordering::Relaxed);
        }
    }
    assert!(told.starts_with(&[421]) && told.ends_with(&[503; 4]), "now and then: {told:?}");
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", origin.authority());
    assert_eq!(stage.connect().await.ask(&request).await.status, 503);
    held.store(1000, Ordering::Relaxed);
    assert_eq!(stage.connect().await.ask(&request).await.status, 200);
    drop(frames);
    let decisions = stage.decisions().await;
    let refused = decisions.iter().filter(|it| it.starts_with("deny over_limit"));
    assert!(refused.count() >= 5, "{decisions:?}");
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_alone() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let rules = vec![format!("host=127.0.0.1 port={}", address.port())];
    let limits = Limits { h2_streams: 3, ..Limits::default() };
    let stage = Setting { limits, ..Setting::redirected(address, &rules) }.start();
    let mut frames = Frames::begin(stage.connect().await.0).await;
    let authority = address.to_string();
    let fields: [frames::Field<'_>; 4] = [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", authority.as_bytes()),
        (b":path", b"/"),
    ];
    let flags = frames::END_HEADERS | frames::END_STREAM;
    // Nobody answers the first three.
    for stream in [1, 3, 5, 7] {
        frames.client.say(frame(frames::HEADERS, flags, stream, &block(&fields))).await;
    }
    let refused = frames.hear(7).await.reset;
    assert_eq!(refused, Some(7), "REFUSED_STREAM");
}
