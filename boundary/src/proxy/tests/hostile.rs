//! Upstreams that attack: what they can make the proxy hold, wait for or believe (escapes F-13, D-2).

use super::*;

/// An upstream that answers every request with the same bytes, and then with `rest` for as long as
/// somebody takes it. Says how many bytes were taken.
struct Hostile {
    address: SocketAddr,
    taken: Arc<Mutex<usize>>,
    ended: Arc<Semaphore>,
}

impl Hostile {
    async fn new(first: impl Into<Vec<u8>>, rest: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (taken, ended) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let hostile = Self { address, taken: Arc::clone(&taken), ended: Arc::clone(&ended) };
        let (first, rest) = (first.into(), rest.into());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (first, rest) = (first.clone(), rest.clone());
                let (taken, ended) = (Arc::clone(&taken), Arc::clone(&ended));
                tokio::spawn(Self::answer_one(stream, (first, rest), taken, ended));
            }
        });
        hostile
    }

    async fn answer_one(
        stream: TcpStream,
        (first, rest): (Vec<u8>, Vec<u8>),
        taken: Arc<Mutex<usize>>,
        ended: Arc<Semaphore>,
    ) {
        drop(Self::answer(stream, &first, &rest, &taken).await);
        ended.add_permits(1);
    }

    async fn answer(
        mut stream: TcpStream,
        first: &[u8],
        rest: &[u8],
        taken: &Mutex<usize>,
    ) -> io::Result<()> {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            stream.write_all(first).await?;
            while !rest.is_empty() {
                stream.write_all(rest).await?;
                *taken.lock().unwrap() += rest.len();
            }
        }
    }

    fn stage(&self, limits: Limits) -> Stage {
        let rules = vec![format!("host=127.0.0.1 port={}", self.address.port())];
        Setting { limits, ..Setting::redirected(self.address, &rules) }.start()
    }

    fn request(&self) -> String {
        format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", self.address)
    }

    /// The proxy hung up.
    async fn is_left(&self) {
        soon(self.ended.acquire()).await.unwrap().forget();
    }
}

/// The number of records that open and of those that close.
fn halves(records: &[serde_json::Value]) -> (usize, usize) {
    let closing = records.iter().filter(|record| record.get("duration_ms").is_some()).count();
    (records.len() - closing, closing)
}

#[tokio::test]
async fn a_head_without_an_end_is_a_502_and_the_upstream_is_left() {
    let line = "X: ".to_owned() + &"y".repeat(1000) + "\r\n";
    for rest in [line.as_bytes().to_vec(), b"X: y\r\n".repeat(100), vec![b'x'; 4096]] {
        let hostile = Hostile::new("HTTP/1.1 200 OK\r\n", rest).await;
        let stage = hostile.stage(Limits::default());
        let got = stage.connect().await.ask(hostile.request()).await;
        assert_eq!(got.status, 502);
        hostile.is_left().await;
        // What the kernel's buffers took is more than what we did.
        let taken = *hostile.taken.lock().unwrap();
        assert!(taken < 16 << 20, "{taken}");
        assert_eq!(halves(&stage.records().await), (1, 1));
    }
}

#[tokio::test]
async fn an_answer_with_too_many_fields_is_a_502() {
    let fields = "X: y\r\n".repeat(200);
    let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
    let hostile = Hostile::new(answer, "").await;
    let stage = hostile.stage(Limits::default());
    assert_eq!(stage.connect().await.ask(hostile.request()).await.status, 502);
    // As many as the limit says are fine, and so is a higher limit.
    let limits = Limits { headers: 300, ..Limits::default() };
    let stage = hostile.stage(limits);
    assert_eq!(stage.connect().await.ask(hostile.request()).await.status, 200);
}

#[tokio::test]
async fn interim_answers_have_an_end() {
    let interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(100);
    let hostile = Hostile::new("", interim.clone()).await;
    let stage = hostile.stage(Limits::default());
    let mut client = stage.connect().await;
    client.say(hostile.request()).await;
    assert_eq!(last_status(&mut client).await, 502);
    hostile.is_left().await;
    // A few are no reason to worry.
    let few = [&interim[..interim.len() / 2], b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"];
    let hostile = Hostile::new(few.concat(), "").await;
    let stage = hostile.stage(Limits::default());
    let mut client = stage.connect().await;
    client.say(hostile.request()).await;
    assert_eq!(last_status(&mut client).await, 200);
}

/// The status of the answer behind any interim ones.
async fn last_status(client: &mut Client<TcpStream>) -> u16 {
    loop {
        let (status, _) = client.head().await;
        if status >= 200 {
            return status;
        }
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_waited_for_as_long_as_the_limit_says() {
    let hostile = Hostile::new("", "").await;
    let limits = Limits { answer_time: Some(Duration::from_millis(50)), ..Limits::default() };
    let stage = hostile.stage(limits);
    let mut client = stage.connect().await;
    let got = client.ask(hostile.request()).await;
    assert_eq!(got.status, 504);
    assert!(got.text().contains("timed_out"), "{}", got.text());
    hostile.is_left().await;
    let records = stage.records().await;
    assert_eq!((halves(&records), records[1]["http_status"].as_u64()), ((1, 1), Some(504)));
}

#[tokio::test]
async fn a_body_that_breaks_is_broken_for_its_client_alone() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let rows = [
        format!("{chunked}zz\r\n"),
        format!("{chunked}-1\r\n"),
        format!("{chunked}5\r\nhello!!\r\n"),
        format!("{chunked}FFFFFFFFFFFFFFFFFF\r\n"),
    ];
    for answer in rows {
        let hostile = Hostile::new(answer.as_str(), "").await;
        let fine = Scripted::fine().await;
        let stage = hostile.stage(Limits::default());
        let mut client = stage.connect().await;
        client.say(hostile.request()).await;
        let all = String::from_utf8_lossy(&client.rest().await).into_owned();
        assert!(all.contains("hello") && !all.contains("\r\n0\r\n"), "{answer:?} gave {all:?}");
        hostile.is_left().await;
        let rules = fine.rule("");
        let other = Stage::redirected(fine.address, &rules);
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", fine.authority());
        assert_eq!(other.connect().await.ask(request).await.status, 200);
        assert_eq!(halves(&stage.records().await), (1, 1), "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_is_no_whole_one_to_an_old_client() {
    for framing in ["Transfer-Encoding: chunked\r\n\r\n5\r\n", "Content-Length: 10\r\n\r\n"] {
        let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{framing}hello");
        let origin = Scripted::new(move |_| answer.clone()).await;
        let stage = Stage::redirected(origin.address, &origin.rule(""));
        let mut client = stage.connect().await;
        client.say(format!("GET / HTTP/1.0\r\nHost: {}\r\n\r\n", origin.authority())).await;
        let mut all = Vec::new();
        let ended = soon(client.0.read_to_end(&mut all)).await;
        assert_eq!(ended.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
        assert!(String::from_utf8_lossy(&all).ends_with("hello"), "{all:?}");
    }
}

#[tokio::test]
async fn trailers_and_chunk_lines_have_an_end() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (first, rest) in [("0\r\n", b"X: y\r\n".repeat(100)), ("1;", vec![b'x'; 4096])] {
        let hostile = Hostile::new(format!("{chunked}{first}"), rest).await;
        let stage = hostile.stage(Limits::default());
        let mut client = stage.connect().await;
        client.say(hostile.request()).await;
        client.rest().await;
        hostile.is_left().await;
        assert_eq!(halves(&stage.records().await), (1, 1));
    }
}

#[tokio::test]
async fn an_answer_nobody_asked_for_answers_nobody() {
    let answer =
        |text: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    let hostile = Hostile::new(answer("ok") + &answer("hidden"), "").await;
    let stage = hostile.stage(Limits::default());
    let mut client = stage.connect().await;
    for _ in 0..5 {
        let got = client.ask(hostile.request()).await;
        assert_eq!((got.status, got.text()), (200, "ok"));
    }
}

#[tokio::test]
async fn a_length_that_an_answer_says_twice_is_no_length() {
    let rows = [
        "Content-Length: 2\r\nContent-Length: 30\r\n",
        "Content-Length: 2, 30\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: -2\r\n",
        "Content-Length: 2x\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "X: a\r\n folded: b\r\nContent-Length: 2\r\n",
        "Content-Length : 2\r\n",
        "X: \0\r\nContent-Length: 2\r\n",
    ];
    for fields in rows {
        let hostile =
            Hostile::new(format!("HTTP/1.1 200 OK\r\n{fields}\r\nokHTTP/1.1 200 OK"), "").await;
        let stage = hostile.stage(Limits::default());
        let got = stage.connect().await.ask(hostile.request()).await;
        assert_eq!(got.status, 502, "{fields:?}");
    }
}

#[tokio::test]
async fn an_endless_body_waits_for_its_reader() {
    let hostile = Hostile::new("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 64 << 10]).await;
    let stage = hostile.stage(Limits::default());
    let mut client = stage.connect().await;
    client.say(hostile.request()).await;
    client.head().await;
    // It is taken until nobody has room any more: then the count stands still.
    let (mut before, mut same) = (0, 0);
    while same < 20 {
        sleep(Duration::from_millis(10)).await;
        let now = *hostile.taken.lock().unwrap();
        same = if now == before { same + 1 } else { 0 };
        before = now;
        assert!(before < 256 << 20, "it never stands still");
    }
    // Four socket buffers, each of which the kernel may grow to some megabytes, and what is ours.
    assert!(before < 32 << 20, "{before}");
    drop(client);
    hostile.is_left().await;
}
