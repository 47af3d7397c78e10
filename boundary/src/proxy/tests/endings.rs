//! How streams end: in order on both sides, or broken on both.

use std::future::pending;
use std::io::ErrorKind;

use super::*;

/// A server, a stage that passes everything on to it, and a client that is through.
async fn through() -> (Stage, Client<TcpStream>, Client<TcpStream>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let rules = [format!("proto=tcp host=127.0.0.1 port={}", address.port())];
    let stage = Stage::redirected(address, &rules);
    let client = stage.connect().await;
    let upstream = Client(soon(listener.accept()).await.unwrap().0);
    (stage, client, upstream)
}

/// What a side reads next: the error's kind.
async fn breaks(side: &mut Client<TcpStream>) -> ErrorKind {
    let mut rest = Vec::new();
    let error = soon(side.0.read_to_end(&mut rest)).await.expect_err("it was cut off");
    assert_eq!(rest, b"", "nothing came before");
    error.kind()
}

#[tokio::test]
async fn a_stream_that_is_refused_ends_with_an_error_at_once() {
    let limits = Limits { silence: Duration::from_millis(50), ..Limits::default() };
    for says in [&b"SSH-2.0-OpenSSH_9.9\r\n"[..], b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b""] {
        let target = ([203, 0, 113, 9], 5432).into();
        let limits = limits.clone();
        let stage = Setting { limits, ..Setting::redirected(target, &[]) }.start();
        let mut client = stage.connect().await;
        client.say(says).await;
        assert_eq!(breaks(&mut client).await, ErrorKind::ConnectionReset, "{says:?}");
        assert_eq!(
            stage.decisions().await,
            ["deny unclear_protocol tcp 203.0.113.9 5432"],
            "{says:?}"
        );
    }
}

#[tokio::test]
async fn a_client_is_not_hurried_where_a_rule_has_it_speak_first() {
    let limits = Limits { silence: Duration::from_millis(20), ..Limits::default() };
    let rules = ["proto=tls host=203.0.113.9".to_owned()];
    let stage =
        Setting { limits, ..Setting::redirected(([203, 0, 113, 9], 8883).into(), &rules) }.start();
    let mut client = stage.connect().await;
    let mut byte = [0];
    let early = timeout(Duration::from_millis(200), client.0.read(&mut byte)).await;
    assert!(early.is_err(), "it was refused: {early:?}");
    client.say("EHLO\r\n").await;
    assert_eq!(breaks(&mut client).await, ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_stream_to_an_address_that_stands_for_no_name_ends_with_an_error_at_once() {
    let stage = Stage::redirected(([198, 18, 200, 1], 22).into(), &[]);
    let mut client = stage.connect().await;
    assert_eq!(breaks(&mut client).await, ErrorKind::ConnectionReset);
    assert_eq!(stage.records().await[0]["code"], "address_refused");
}

#[tokio::test]
async fn a_stream_inside_a_tunnel_that_is_refused_ends_with_an_error_too() {
    let rules = ["host=203.0.113.9 port=22".to_owned()];
    let stage = Setting::explicit(&rules).start();
    let mut client = stage.connect().await;
    assert_eq!(client.open("203.0.113.9:22").await, 200);
    client.say("SSH-2.0-OpenSSH_9.9\r\n").await;
    assert_eq!(breaks(&mut client).await, ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_permitted_server_that_is_not_there_is_an_error_at_once() {
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let rules = [format!("proto=tcp host=127.0.0.1 port={}", address.port())];
    let stage = Stage::redirected(address, &rules);
    let mut client = stage.connect().await;
    assert_eq!(breaks(&mut client).await, ErrorKind::ConnectionReset);
    let records = stage.records().await;
    assert_eq!(records[0]["decision"], "allow");
    assert_eq!((&records[1]["bytes_up"], &records[1]["bytes_down"]), (&0.into(), &0.into()));
}

#[tokio::test]
async fn a_quiet_upstream_is_asked_whether_it_is_still_there() {
    let (_stage, mut client, mut upstream) = through().await;
    upstream.say("220 ready\r\n").await;
    assert_eq!(client.line().await, "220 ready\r\n");
    let port = upstream.0.peer_addr().unwrap().port();
    let local = format!("0100007F:{port:04X}");
    // The kernel's table: the timer that runs is number 2 (`tcp_diag`'s and proc(5)'s numbers).
    // Until what was said last is acknowledged, the timer of its repetition runs in its place.
    let is_asked = || {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let ours = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let timers: Vec<_> =
            ours.filter(|line| line[1] == local).map(|line| line[5].to_owned()).collect();
        matches!(&timers[..], [timer] if timer.starts_with("02:"))
    };
    soon(async {
        while !is_asked() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_breaks_on_one_side_breaks_on_the_other() {
    for upstream_breaks in [true, false] {
        let (_stage, mut client, mut upstream) = through().await;
        client.say("hello\r\n").await;
        assert_eq!(upstream.line().await, "hello\r\n");
        let (breaking, mut other) =
            if upstream_breaks { (upstream, client) } else { (client, upstream) };
        breaking.0.set_zero_linger().unwrap();
        drop(breaking);
        assert_eq!(breaks(&mut other).await, ErrorKind::ConnectionReset, "{upstream_breaks}");
    }
}

#[tokio::test]
async fn what_ends_in_order_on_one_side_ends_in_order_on_the_other() {
    for upstream_ends in [true, false] {
        let (_stage, client, upstream) = through().await;
        let (mut ending, mut other) =
            if upstream_ends { (upstream, client) } else { (client, upstream) };
        ending.0.shutdown().await.unwrap();
        let mut rest = Vec::new();
        soon(other.0.read_to_end(&mut rest)).await.expect("the end, and no error");
        // The other half is open for as long as it likes.
        other.say("still here\r\n").await;
        assert_eq!(ending.line().await, "still here\r\n");
        drop(other);
        soon(ending.0.read_to_end(&mut rest)).await.expect("the end, and no error");
    }
}

#[tokio::test]
async fn the_last_words_of_a_server_that_hears_no_more_arrive() {
    let (_stage, mut client, mut upstream) = through().await;
    client.say("a question that is not read").await;
    upstream.0.readable().await.unwrap();
    upstream.say("421 too busy\r\n").await;
    // Closed with something unread: the kernel sends a reset.
    drop(upstream);
    assert_eq!(client.line().await, "421 too busy\r\n");
}

#[tokio::test]
async fn a_side_that_does_not_read_holds_back_the_other() {
    let (_stage, client, mut upstream) = through().await;
    let block = vec![7; 256 * 1024];
    let mut sent = 0;
    // Until nothing more is taken: the buffers of two connections, and one read of ours.
    while let Ok(Ok(())) = timeout(Duration::from_millis(200), client.0.writable()).await {
        match client.0.try_write(&block) {
            Ok(length) => sent += length,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(sent < 64 << 20, "somebody keeps it all");
    }
    let mut client = client;
    client.0.shutdown().await.unwrap();
    let mut arrived = Vec::new();
    soon(upstream.0.read_to_end(&mut arrived)).await.unwrap();
    assert_eq!(arrived.len(), sent);
    assert!(arrived.iter().all(|byte| *byte == 7));
}

/// Sends and receives at once, and checks what came.
async fn exchange(stream: TcpStream, bytes: Arc<Vec<u8>>) {
    let (mut read, mut write) = stream.into_split();
    let sending = async {
        write.write_all(&bytes).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (received, ()) = tokio::join!(read.read_to_end(&mut got), sending);
    received.unwrap();
    assert!(got == *bytes, "{} bytes", got.len());
}

#[tokio::test]
async fn many_bytes_arrive_both_ways_at_once_in_order() {
    const BYTES: usize = 16 << 20;
    let (stage, client, upstream) = through().await;
    let bytes: Arc<Vec<u8>> = Arc::new((0..=250).cycle().take(BYTES).collect());
    let both = async {
        tokio::join!(exchange(client.0, Arc::clone(&bytes)), exchange(upstream.0, bytes));
    };
    soon(both).await;
    let records = stage.records().await;
    let closing = &records[1];
    assert_eq!((&closing["bytes_up"], &closing["bytes_down"]), (&BYTES.into(), &BYTES.into()));
    assert!(closing["duration_ms"].is_number());
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_which_nothing_is_heard_for_long_is_broken_on_both_sides() {
    let (mut client, mut far_client) = tokio::io::duplex(64);
    let (mut upstream, mut far_upstream) = tokio::io::duplex(64);
    let (sinks, _log, _records) = Sinks::memory(Level::INFO, Format::Text);
    let recorder = Recorder::start(sinks, session()).unwrap();
    let subject = crate::audit::Subject { door: Door::Redirect, process: None, target: None };
    let entry = recorder.decide(&subject, Decision::Deny(Denial::new(Code::NoRule)));
    let account = Account::new(entry);
    let idle = Duration::from_mins(1);
    let talk = async {
        sleep(idle / 2).await;
        far_client.write_all(b"still here").await.unwrap();
        let mut heard = [0; 10];
        far_upstream.read_exact(&mut heard).await.unwrap();
        tokio::time::Instant::now()
    };
    let (ended, spoke) =
        tokio::join!(relay::relay(&mut client, &mut upstream, &account, idle, pending()), talk);
    assert_eq!(ended, Ended::Broken);
    assert!(spoke.elapsed() >= idle / 2);
}

#[tokio::test]
async fn a_stream_whose_client_has_shut_is_not_waited_for_when_the_session_ends() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let rules = [format!("proto=tcp host=127.0.0.1 port={}", address.port())];
    let limits = Limits { drain: 100 * DEADLINE, ..Limits::default() };
    let mut stage = Setting { limits, ..Setting::redirected(address, &rules) }.start();
    let mut client = stage.connect().await;
    let mut upstream = Client(soon(listener.accept()).await.unwrap().0);
    drop(stage.shutdown.take());
    soon(stage.proxy.closing()).await;
    // Until then what it says arrives.
    client.say("last words").await;
    client.0.shutdown().await.unwrap();
    let mut heard = Vec::new();
    soon(upstream.0.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"last words");
    let mut rest = Vec::new();
    soon(client.0.read_to_end(&mut rest)).await.unwrap();
    assert_eq!((rest, stage.records().await.len()), (Vec::new(), 2));
}
