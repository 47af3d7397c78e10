//! Shared upstream connections on which nothing comes any more.

use tokio::io::copy_bidirectional;
use tokio::sync::watch;

use super::*;

/// A way to an origin on which, once it is told, what was connected before stands still without an end.
async fn freezing(to: SocketAddr) -> (u16, watch::Sender<u32>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (freeze, _) = watch::channel(0);
    let told = freeze.clone();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut told = told.subscribe();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ended = copy_bidirectional(&mut near, &mut far) => {}
                    _frozen = told.changed() => std::future::pending().await,
                }
            });
        }
    });
    (port, freeze)
}

/// A stage and a client before an origin that can be frozen.
async fn frozen_later(origin: &Origin2, limits: Limits) -> (Stage, Many, watch::Sender<u32>) {
    let (port, freeze) = freezing(origin.secure.address()).await;
    let setting = Setting::to_name("localhost", port, &[format!("host=localhost port={port}")]);
    let limits = Limits { drain: setting.limits.drain, ..limits };
    let stage = origin.secure.stage(Setting { limits, ..setting });
    let client = Many::secured(&stage, port).await;
    assert_eq!(client.ask(client.get("/1")).await.status, 200);
    (stage, client, freeze)
}

#[tokio::test]
async fn a_shared_connection_on_which_no_answer_comes_in_time_carries_nothing_more() {
    let origin = Origin2::fine().await;
    let limits = Limits { answer_time: Some(Duration::from_secs(1)), ..Limits::default() };
    let (_stage, client, freeze) = frozen_later(&origin, limits).await;
    freeze.send_replace(1);
    assert_eq!(client.ask(client.get("/2")).await.status, 504);
    assert_eq!(client.ask(client.get("/3")).await.status, 200);
    assert_eq!(client.ask(client.get("/4")).await.status, 200);
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn nor_does_one_on_which_an_answer_is_given_up_that_was_awaited_for_long() {
    let origin = Origin2::fine().await;
    let limits = Limits { attempt: Duration::from_millis(400), ..Limits::default() };
    let (_stage, client, freeze) = frozen_later(&origin, limits).await;
    freeze.send_replace(1);
    // Whoever gives up at once may have no reason but their own.
    for (patience, answered) in [(100, false), (600, false), (5000, true)] {
        let asked = client.ask(client.get("/2"));
        let got = timeout(Duration::from_millis(patience), asked).await;
        assert_eq!(got.is_ok_and(|got| got.status == 200), answered, "after {patience} ms");
        // The reset of its stream has to be seen first.
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(origin.connections(), 2);
}
