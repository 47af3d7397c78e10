//! The front alone: what it counts, what it lets by, when it ends.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

/// A frame as bytes.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

const PING: u8 = 6;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;

fn front(limits: &Limits) -> (DuplexStream, Frames<DuplexStream>, Verdict) {
    let (near, far) = duplex(1 << 20);
    let verdict = Verdict::default();
    (near, Frames::client(far, limits, Arc::clone(&verdict), Arc::default()), verdict)
}

/// What comes through of bytes that are followed by the end, read in pieces of a size.
async fn through(limits: &Limits, bytes: &[u8], piece: usize) -> (Vec<u8>, Option<Excess>) {
    let (mut near, mut front, verdict) = front(limits);
    near.write_all(bytes).await.unwrap();
    near.shutdown().await.unwrap();
    let (mut all, mut part) = (Vec::new(), vec![0; piece]);
    loop {
        match front.read(&mut part).await.unwrap() {
            0 => return (all, verdict.get().copied()),
            count => all.extend(&part[..count]),
        }
    }
}

fn limits() -> Limits {
    Limits { h2_frames: 100, h2_resets: 10, ..Limits::default() }
}

#[tokio::test(start_paused = true)]
async fn what_is_within_its_bounds_passes_unchanged_in_pieces_of_any_size() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut bytes = preface;
    for _ in 0..20 {
        bytes.extend(frame(SETTINGS, 0, &[0, 1, 0, 0, 0, 0]));
        bytes.extend(frame(kind::HEADERS, 0, b"fields"));
        bytes.extend(frame(kind::CONTINUATION, kind::END_HEADERS, b"more"));
        bytes.extend(frame(kind::DATA, 0, &[7; 3000]));
        bytes.extend(frame(kind::DATA, kind::END_STREAM, b""));
        bytes.extend(frame(WINDOW_UPDATE, 0, &[0, 0, 0, 9]));
        bytes.extend(frame(PING, 0, &[0; 8]));
    }
    for piece in [1, 2, 8, 9, 10, 24, 1000, 100_000] {
        assert_eq!(through(&limits(), &bytes, piece).await, (bytes.clone(), None), "{piece}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_frame_too_many_is_held_back_and_ends_the_stream_between_frames() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let rows = [
        (frame(PING, 0, &[0; 8]), 100, Excess::Frames),
        (frame(SETTINGS, 1, b""), 100, Excess::Frames),
        (frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1]), 100, Excess::Frames),
        (frame(2, 0, &[0; 5]), 100, Excess::Frames),
        (frame(kind::DATA, 0, b""), 100, Excess::Frames),
        (frame(kind::CONTINUATION, 0, b""), 100, Excess::Frames),
        (frame(0xfe, 0, b""), 100, Excess::Frames),
        (frame(kind::RST_STREAM, 0, &[0, 0, 0, 8]), 10, Excess::Resets),
    ];
    for (frame, budget, excess) in rows {
        let bytes = [preface.to_vec(), frame.repeat(budget + 20)].concat();
        for piece in [1, 9, 100_000] {
            let (all, found) = through(&limits(), &bytes, piece).await;
            assert_eq!(found, Some(excess), "{frame:?}");
            let count = (all.len() - preface.len()) / frame.len();
            assert_eq!(all.len() - preface.len(), count * frame.len(), "whole frames");
            // What has passed by then excuses a few.
            assert!((budget..budget + 20).contains(&count), "{count} of {frame:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn data_excuses_what_it_needs() {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    for _ in 0..5000 {
        bytes.extend(frame(kind::DATA, 0, &[0; 1024]));
        bytes.extend(frame(WINDOW_UPDATE, 0, &[0, 0, 4, 0]).repeat(2));
        bytes.extend(frame(PING, 1, &[0; 8]));
    }
    let (mut near, mut front, verdict) = front(&limits());
    let length = bytes.len();
    let write = async {
        near.write_all(&bytes).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let mut all = Vec::new();
    let ((), read) = tokio::join!(write, front.read_to_end(&mut all));
    assert_eq!((read.unwrap(), verdict.get().copied()), (length, None));
}

/// What gRPC says for every small message that it gets: a window, and a question how fast it was.
fn measured() -> Vec<u8> {
    [frame(WINDOW_UPDATE, 0, &[0, 0, 0, 30]), frame(PING, 0, &[0; 8])].concat()
}

/// A front before a client or an upstream, behind the preface.
async fn begun(is_client: bool) -> (DuplexStream, Frames<DuplexStream>, Verdict) {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    if is_client {
        let (mut near, mut front, verdict) = front(&Limits::default());
        near.write_all(preface).await.unwrap();
        front.read_exact(&mut [0; 24]).await.unwrap();
        return (near, front, verdict);
    }
    let (mut near, far) = duplex(1 << 20);
    let mut front = Frames::upstream(far, &Limits::default());
    let verdict = Arc::clone(&front.verdict);
    front.write_all(preface).await.unwrap();
    near.read_exact(&mut [0; 24]).await.unwrap();
    (near, front, verdict)
}

/// What becomes of fifty thousand small messages, towards the front or from it, each with what gRPC says.
async fn many(message: &[u8], is_client: bool, comes: bool) -> Option<Excess> {
    let (mut near, mut front, verdict) = begun(is_client).await;
    let mut heard = measured();
    if comes {
        heard.extend(message);
    }
    let (mut through, mut said) = (vec![0; heard.len()], vec![0; message.len()]);
    for _ in 0..50_000 {
        if !comes {
            // In two pieces, of which the first is not even a frame's head.
            front.write_all(&message[..4]).await.unwrap();
            front.write_all(&message[4..]).await.unwrap();
            front.flush().await.unwrap();
            near.read_exact(&mut said).await.unwrap();
        }
        near.write_all(&heard).await.unwrap();
        if front.read_exact(&mut through).await.is_err() {
            break;
        }
    }
    verdict.get().copied()
}

#[tokio::test(start_paused = true)]
async fn a_small_message_excuses_what_is_said_of_it_whichever_way_it_goes() {
    let message = frame(kind::DATA, 0, &[0; 30]);
    let call = frame(kind::HEADERS, kind::END_HEADERS, &[0; 20]);
    for frame in [message, call] {
        for (is_client, comes) in [(true, true), (true, false), (false, true), (false, false)] {
            assert_eq!(many(&frame, is_client, comes).await, None, "{is_client} {comes}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_carries_nothing_excuses_nothing() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // Padding is no content.
    for idle in [frame(PING, 0, &[0; 8]), frame(kind::DATA, 8, &[3, 0, 0, 0])] {
        let (mut near, mut front, verdict) = front(&limits());
        near.write_all(&[&preface[..], &idle.repeat(120), &measured().repeat(100)].concat())
            .await
            .unwrap();
        near.shutdown().await.unwrap();
        front.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(verdict.get().copied(), Some(Excess::Frames), "{idle:?}");
    }
    // Nor does what is said in answer to it.
    let (mut near, mut front, verdict) = front(&limits());
    near.write_all(preface).await.unwrap();
    front.read_exact(&mut [0; 24]).await.unwrap();
    for _ in 0..150 {
        near.write_all(&frame(PING, 0, &[0; 8])).await.unwrap();
        let mut heard = [0; 17];
        if front.read_exact(&mut heard).await.is_ok() {
            front.write_all(&frame(PING, 1, &[0; 8])).await.unwrap();
        }
    }
    assert_eq!(verdict.get().copied(), Some(Excess::Frames));
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_is_forgiven_in_time() {
    let mut budget = Budget::new(100);
    let spent = |budget: &mut Budget| (0..1000).filter(|_| budget.spend()).count();
    assert_eq!(spent(&mut budget), 100);
    tokio::time::advance(FORGIVEN / 10).await;
    assert_eq!(spent(&mut budget), 10);
    tokio::time::advance(FORGIVEN * 9).await;
    assert_eq!(spent(&mut budget), 100);
}

#[tokio::test(start_paused = true)]
async fn what_has_begun_must_be_whole_in_time() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    let rows = [
        vec![],
        preface[..10].to_vec(),
        [preface, &frame(kind::HEADERS, 4, &[0; 40])[..4]].concat(),
        [preface, &frame(kind::HEADERS, 4, &[0; 40])[..20]].concat(),
        [preface, &frame(kind::HEADERS, 0, &[0; 40])].concat(),
        [preface, &frame(kind::HEADERS, 0, b"x"), &frame(kind::CONTINUATION, 0, b"x")].concat(),
    ];
    for row in rows {
        let (mut near, mut front, verdict) = front(&Limits::default());
        near.write_all(&row).await.unwrap();
        let began = Instant::now();
        front.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(verdict.get().copied(), Some(Excess::Late), "{row:?}");
        assert_eq!(began.elapsed().as_secs(), Limits::default().head_time.as_secs());
        front.shutdown().await.unwrap();
        let mut said = [0; 17];
        near.read_exact(&mut said).await.unwrap();
        assert_eq!((said[3], said[16]), (kind::GOAWAY, 0xb), "ENHANCE_YOUR_CALM");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_anything_begun_has_all_the_time() {
    let limits = Limits::default();
    let (mut near, mut front, verdict) = front(&limits);
    near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    near.write_all(&frame(kind::HEADERS, 4, b"fields")).await.unwrap();
    near.write_all(&frame(kind::DATA, 0, b"slowly")[..11]).await.unwrap();
    let mut bytes = [0; 24 + 15 + 11];
    front.read_exact(&mut bytes).await.unwrap();
    let mut part = [0; 1];
    let patience = tokio::time::timeout(limits.head_time * 100, front.read(&mut part)).await;
    assert!(patience.is_err() && verdict.get().is_none());
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_cut_anywhere_are_not_late_while_they_come() {
    let limits = Limits::default();
    let (mut near, mut front, verdict) = front(&limits);
    near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let bytes = frame(kind::DATA, 0, b"data").repeat(20);
    let read = tokio::spawn(async move {
        let mut all = Vec::new();
        front.read_to_end(&mut all).await.unwrap();
        all.len()
    });
    // Each piece ends in the middle of a frame's head.
    for piece in [&bytes[..4]].into_iter().chain(bytes[4..].chunks(13)) {
        near.write_all(piece).await.unwrap();
        tokio::time::sleep(limits.head_time / 2).await;
    }
    near.shutdown().await.unwrap();
    assert_eq!((read.await.unwrap(), verdict.get()), (24 + bytes.len(), None));
}

/// Counts what is written to it.
#[derive(Default)]
struct Packets(Vec<Vec<u8>>);

impl AsyncWrite for Packets {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.0.push(buf.to_vec());
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Packets {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}

#[test]
fn what_is_said_waits_once_for_others_and_what_is_large_does_not() {
    let woken = Arc::new(Woken::default());
    let waker = Arc::clone(&woken).into();
    let cx = &mut Context::from_waker(&waker);
    let mut front = Frames::upstream(Packets::default(), &limits());
    for _ in 0..2 {
        // Whoever speaks is asked again at once, and then with everything that was said by then.
        assert!(Pin::new(&mut front).poll_write(cx, b"one").is_pending());
        assert!(woken.0.swap(false, Ordering::Relaxed));
        assert!(Pin::new(&mut front).poll_write(cx, b"one and two").is_ready());
        assert!(Pin::new(&mut front).poll_write(cx, b"more").is_ready());
        assert!(Pin::new(&mut front).poll_flush(cx).is_ready());
    }
    assert!(Pin::new(&mut front).poll_write(cx, &[7; READ]).is_ready());
    let said = [b"one and two".to_vec(), b"more".to_vec()];
    assert_eq!(front.stream.0, [&said[..], &said[..], &[vec![7; READ]]].concat());
}

/// Notes that it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
