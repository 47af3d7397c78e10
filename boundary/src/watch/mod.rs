//! What operators see of boundary itself while it runs.
//!
//! *Standing*: the proxy's process opens a [`Window`] while it may, and serves it beside the doors.
//! *Never*: is open to any place but loopback, or tells what was asked for: counts, times and sizes.

mod page;
mod profile;

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::error::Elapsed;
use tokio::time::{Duration, sleep, timeout};

/// How many may look at once.
const LOOKERS: usize = 8;
/// How long one may look, longer than what is asked for takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long accepting pauses when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The port of a window is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("{option}: name a free port; cannot listen on {address}: {source}")]
pub struct Closed {
    /// Where.
    address: SocketAddr,
    /// The option that wants it.
    option: &'static str,
    /// Why.
    source: io::Error,
}

/// A listening socket on loopback.
#[derive(Debug)]
pub struct Window(TcpListener);

impl Window {
    /// Opens it for an option, on IPv4 loopback alone.
    pub fn open(port: u16, option: &'static str) -> Result<Self, Closed> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let closed = |source| Closed { address, option, source };
        let listener = TcpListener::bind(address).map_err(closed)?;
        listener.set_nonblocking(true).map_err(closed)?;
        Ok(Self(listener))
    }

    /// Shows a registry at `/metrics` for as long as it is polled.
    pub async fn show_metrics(self, registry: Registry) -> io::Error {
        let registry = Arc::new(registry);
        self.serve(PATIENCE, move |request| ready(page::metrics(&request, &registry))).await
    }

    /// Makes profiles of this process at `/debug/pprof/profile` for as long as it is polled.
    pub async fn show_profiles(self) -> io::Error {
        self.serve(PATIENCE + page::LONGEST, page::profile).await
    }

    /// Answers who looks, each within some time.
    async fn serve<A, F>(self, within: Duration, answer: A) -> io::Error
    where
        A: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let listener = match tokio::net::TcpListener::from_std(self.0) {
            Ok(listener) => listener,
            Err(error) => return error,
        };
        let (answer, room) = (Arc::new(answer), Arc::new(Semaphore::new(LOOKERS)));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            // Who finds no room is closed at once; there is nothing here to wait for.
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let shown = timeout(within, show(stream, &*answer)).await;
                drop(place);
                told(shown);
            });
        }
    }
}

/// Says so where one who looked could not be told, unless it took them too long.
fn told(shown: Result<hyper::Result<()>, Elapsed>) {
    if let Ok(Err(error)) = shown {
        tracing::debug!(%error, "who looked could not be told");
    }
}

/// Answers one who looks.
async fn show<F>(stream: TcpStream, answer: impl Fn(Request<Incoming>) -> F) -> hyper::Result<()>
where
    F: Future<Output = Response<Full<Bytes>>>,
{
    let answer = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut server = http1::Builder::new();
    let server = server.timer(TokioTimer::new()).keep_alive(false);
    server.serve_connection(TokioIo::new(stream), answer).await
}
