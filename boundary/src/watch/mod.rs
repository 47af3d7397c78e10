//! What operators see of boundary itself while it runs.
//!
//! *Standing*: the proxy's process opens a [`Window`] while it may, and serves it beside the doors.
//! *Never*: is open to any place but loopback, or tells what was asked for: counts, times and sizes.

mod page;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, sleep, timeout};

/// How many may look at once.
const LOOKERS: usize = 8;
/// How long one may look.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long accepting pauses when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The port of a window is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for metrics: {source}")]
pub struct Closed {
    /// Where.
    address: SocketAddr,
    /// Why.
    source: io::Error,
}

/// A listening socket on loopback that shows `/metrics`.
#[derive(Debug)]
pub struct Window(TcpListener);

impl Window {
    /// Opens it, on IPv4 loopback alone.
    pub fn open(port: u16) -> Result<Self, Closed> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let closed = |source| Closed { address, source };
        let listener = TcpListener::bind(address).map_err(closed)?;
        listener.set_nonblocking(true).map_err(closed)?;
        Ok(Self(listener))
    }

    /// Shows a registry for as long as it is polled.
    pub async fn serve(self, registry: Registry) -> io::Error {
        let listener = match tokio::net::TcpListener::from_std(self.0) {
            Ok(listener) => listener,
            Err(error) => return error,
        };
        let (registry, room) = (Arc::new(registry), Arc::new(Semaphore::new(LOOKERS)));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            // Who finds no room is closed at once; there is nothing here to wait for.
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
            tokio::spawn(show(stream, Arc::clone(&registry), place));
        }
    }
}

/// Shows a registry to one who looks.
async fn show(stream: TcpStream, registry: Arc<Registry>, _place: OwnedSemaphorePermit) {
    let answer = service_fn(|request| {
        let answer = page::answer(&request, &registry);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    let server = server.timer(TokioTimer::new()).keep_alive(false);
    let looked = timeout(PATIENCE, server.serve_connection(TokioIo::new(stream), answer));
    if let Ok(Err(error)) = looked.await {
        tracing::debug!(%error, "metrics could not be told");
    }
}
