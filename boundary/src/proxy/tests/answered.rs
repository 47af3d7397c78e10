//! Connections to addresses that a real answer gave for a name.

use super::*;

/// An address at which nobody is, as a real answer might hold it.
const ANSWERED: [u8; 4] = [203, 0, 113, 7];

/// A stage for a connection to that address, which was given for these names.
fn stage(port: u16, names: &[&'static str], rules: &[String]) -> Stage {
    let noted = names.iter().map(|name| (*name, ANSWERED.into())).collect();
    Setting { noted, ..Setting::redirected((ANSWERED, port).into(), rules) }.start()
}

#[tokio::test]
async fn a_stream_to_an_answered_address_goes_where_the_permitted_name_leads() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let rules = [format!("proto=tcp host=localhost port={port}")];
    // The one that was asked for last is denied, and no way to anywhere.
    let stage = stage(port, &["localhost", "denied.example"], &rules);
    let mut client = stage.connect().await;
    let mut upstream = Client(soon(listener.accept()).await.unwrap().0);
    upstream.say("220 ready\r\n").await;
    assert_eq!(client.line().await, "220 ready\r\n");
    drop((client, upstream));
    assert_eq!(stage.decisions().await, [format!("allow - tcp localhost {port}")]);
}

#[tokio::test]
async fn an_address_is_no_name_before_an_answer_nor_another_names() {
    for names in [&[][..], &["denied.example"]] {
        let rules = ["proto=tcp host=localhost port=5432".to_owned()];
        let stage = stage(5432, names, &rules);
        let mut client = stage.connect().await;
        client.say(b"\0\0\0\x08\x04\xd2\x16\x2f").await;
        assert!(client.rest().await.is_empty());
        assert_eq!(
            stage.decisions().await,
            ["deny unclear_protocol tcp 203.0.113.7 5432"],
            "{names:?}"
        );
    }
}

#[tokio::test]
async fn a_request_at_an_answered_address_may_name_that_host_and_no_other() {
    let origin = Scripted::fine().await;
    let port = origin.address.port();
    let rules = [format!("host=localhost port={port}")];
    let request = format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
    let answered = stage(port, &["denied.example", "localhost"], &rules);
    assert_eq!(answered.connect().await.ask(&request).await.status, 200);
    let unanswered = stage(port, &["denied.example"], &rules);
    let denied = unanswered.connect().await.ask(&request).await;
    assert_eq!((denied.status, denied.field("x-boundary-denied")), (403, Some("host_mismatch")));
    assert_eq!(origin.requests().len(), 1);
}
