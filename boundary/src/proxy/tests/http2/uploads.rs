//! Uploads that stand still: the client has so long, and not while it waits for others.

use super::super::frames::{self, Field, Frames, block, frame};
use super::*;

/// How long a body may stand still here.
const PATIENCE: Duration = Duration::from_millis(200);

/// A stage with that patience.
fn hasty(secure: &Secure) -> Stage {
    let rules = [format!("host=localhost port={}", secure.port())];
    let setting = Setting::to_name("localhost", secure.port(), &rules);
    let limits = Limits { idle: PATIENCE, ..setting.limits.clone() };
    secure.stage(Setting { limits, ..setting })
}

/// A connection on which ten bytes were announced, and three sent.
async fn begun(stage: &Stage, port: u16) -> Frames<impl Stream> {
    let stream = stage.connect().await.0;
    let client = greeted_with(stage, stream, "localhost", true, b"h2").await.unwrap();
    let mut frames = Frames::begin(client.0).await;
    let authority = format!("localhost:{port}");
    let fields: [Field<'_>; 5] = [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", authority.as_bytes()),
        (b":path", b"/"),
        (b"content-length", b"10"),
    ];
    let stream = frames.number();
    let head = frame(frames::HEADERS, frames::END_HEADERS, stream, &block(&fields));
    frames.client.say([head, frame(frames::DATA, 0, stream, b"abc")].concat()).await;
    frames
}

/// Answers when it has heard everything.
async fn patient(request: Request<Incoming>) -> Response<Content> {
    match request.into_body().collect().await {
        Ok(all) => Response::new(content(all.to_bytes())),
        Err(_) => std::future::pending().await,
    }
}

/// What is on record of one request: its decision, and how it ended.
async fn closed(stage: Stage) -> (String, u64, u64) {
    let records = stage.records().await;
    assert_eq!(records.len(), 2, "one decision and its end: {records:?}");
    let number = |key: &str| records[1][key].as_u64().unwrap_or_default();
    let decision = records[0]["decision"].as_str().unwrap_or_default().to_owned();
    (decision, number("http_status"), number("bytes_up"))
}

#[tokio::test]
async fn an_upload_that_stands_still_is_given_up_in_time_and_on_record_once() {
    let (both, old) =
        (Origin2::new(&["h2"], patient).await, Origin1::new(|_| "never".into()).await);
    for secure in [&both.secure, &old.secure] {
        let stage = hasty(secure);
        let began = std::time::Instant::now();
        let mut frames = begun(&stage, secure.port()).await;
        // Frames without a byte are no reason to wait.
        sleep(PATIENCE / 2).await;
        frames.client.say(frame(frames::DATA, 0, 1, b"")).await;
        let heard = frames.hear(1).await;
        assert_eq!(heard.status, 408, "{heard:?}");
        assert!(began.elapsed() >= PATIENCE, "{:?}", began.elapsed());
        let text = String::from_utf8(heard.body).unwrap();
        assert!(text.contains("Code: over_limit"), "{text}");
        drop(frames);
        assert_eq!(closed(stage).await, ("allow".into(), 408, 3));
    }
}

#[tokio::test]
async fn an_upload_that_moves_has_all_the_time() {
    let origin = Origin2::new(&["h2"], patient).await;
    let stage = hasty(&origin.secure);
    let mut frames = begun(&stage, origin.port()).await;
    for _ in 0..7 {
        sleep(PATIENCE / 2).await;
        frames.client.say(frame(frames::DATA, 0, 1, b"d")).await;
    }
    frames.client.say(frame(frames::DATA, frames::END_STREAM, 1, b"")).await;
    let heard = frames.hear(1).await;
    assert_eq!((heard.status, &heard.body[..]), (200, &b"abcddddddd"[..]));
    drop(frames);
    assert_eq!(closed(stage).await, ("allow".into(), 200, 10));
}

#[tokio::test]
async fn an_upload_that_waits_for_the_upstream_is_not_its_clients_fault() {
    let slowly = |request: Request<Incoming>| async {
        sleep(PATIENCE * 4).await;
        patient(request).await
    };
    let origin = Origin2::new(&["h2"], slowly).await;
    let stage = hasty(&origin.secure);
    let client = Many::secured(&stage, origin.port()).await;
    // More than all windows on the way hold.
    let large = Bytes::from(vec![7; 8 << 20]);
    let request = Request::post(format!("{}/", client.base)).body(content(large.clone())).unwrap();
    let got = client.ask(request).await;
    assert!(got.status == 200 && got.body == large, "{} {}", got.status, got.body.len());
}

#[tokio::test]
async fn an_upload_whose_answer_has_begun_may_wait_for_it() {
    let origin = Origin2::new(&["h2"], |request: Request<Incoming>| async {
        Response::new(
            http_body_util::BodyExt::map_err(request.into_body(), |error| panic!("{error}"))
                .boxed(),
        )
    })
    .await;
    let stage = hasty(&origin.secure);
    let mut frames = begun(&stage, origin.port()).await;
    sleep(PATIENCE * 4).await;
    frames.client.say(frame(frames::DATA, frames::END_STREAM, 1, b"defghij")).await;
    let heard = frames.hear(1).await;
    assert_eq!((heard.status, &heard.body[..]), (200, &b"abcdefghij"[..]));
}
