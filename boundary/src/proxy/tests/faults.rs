//! Faults of boundary's own: whoever meets one is alone with it.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{DuplexStream, ReadBuf, duplex};

use super::*;

/// A stream that can be read, and breaks the task that writes to it.
struct Breaking(DuplexStream);

impl AsyncRead for Breaking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Breaking {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        panic!("as it should");
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_task_that_panics_ends_its_own_connection_and_closes_its_record() {
    let origin = Scripted::fine().await;
    let stage = Stage::redirected(origin.address, &origin.rule(""));
    let target = origin.address;
    // Plain, for the long way, and HTTP/2: each breaks when it writes.
    let host = origin.authority();
    let plain = format!("GET /plain HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let odd = format!("GET /odd HTTP/1.1\r\nHost: {host}\r\nTE: trailers\r\n\r\n");
    let second = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_owned();
    for said in [plain, odd, second] {
        let client = ([127, 0, 0, 1], 1).into();
        let flow = Flow { door: Door::Redirect, client, target, process: None };
        let call = Call::new(flow, &stage.proxy.pins).ok().unwrap();
        let (mut near, far) = duplex(4096);
        let carried = tokio::spawn(Arc::clone(&stage.proxy).carry(Breaking(far), call));
        near.write_all(said.as_bytes()).await.unwrap();
        let ended = soon(carried).await;
        assert!(ended.is_err_and(|ended| ended.is_panic()), "{said}");
        let over = std::time::Instant::now();
        let mut client = stage.connect().await;
        let request = format!("GET /after HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(client.ask(&request).await.status, 200, "after {said}");
        recovered(over);
    }
    let records = stage.records().await;
    for path in ["/plain", "/odd"] {
        let url = format!("http://{host}{path}");
        let of = records.iter().find(|record| record["http_url"] == url).expect("it was decided");
        let closed = records.iter().any(|record| {
            record["sequence"] == of["sequence"] && record.get("duration_ms").is_some()
        });
        assert!(closed, "{path} is open for ever: {records:?}");
    }
}

#[tokio::test]
async fn a_jail_that_breaks_over_a_connection_costs_that_connection() {
    let origin = Scripted::fine().await;
    let setting = Setting::redirected(origin.address, &origin.rule(""));
    let stage = Setting { breaks_at: Some(1), ..setting }.start();
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", origin.authority());
    let mut broken = stage.connect().await;
    // It may be gone before it has spoken.
    drop(soon(broken.0.write_all(request.as_bytes())).await);
    broken.ends().await;
    let over = std::time::Instant::now();
    assert_eq!(stage.connect().await.ask(&request).await.status, 200);
    recovered(over);
    assert_eq!(stage.decisions().await.len(), 1, "nothing is known of the first");
}
