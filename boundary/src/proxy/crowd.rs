//! Connections for which there is no room: told so where they speak HTTP, and on record.
//!
//! *Standing*: [`super::Proxy::admit`] hands over what is beyond a limit. *Never*: reads a request, or
//! lets a crowd of those who are turned away become one of its own.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::peek::{self, Peeked};
use super::{Flow, Proxy, respond};
use crate::audit::{Decision, Subject};
use crate::rules::{Code, Denial};

/// How many are told at once; the others are closed.
pub(super) const PORCH: usize = 64;

impl Proxy {
    /// Records that a connection found no room, and tells the client if it speaks HTTP.
    pub(super) fn turn_away(
        self: &Arc<Self>,
        connections: &mut JoinSet<()>,
        stream: TcpStream,
        flow: Flow,
    ) {
        let Flow { door, client: _, target, process } = flow;
        let subject = Subject { door, process: process.map(Arc::new), target: Some(target) };
        let denial = Denial::new(Code::OverLimit);
        drop(self.recorder.decide(&subject, Decision::Deny(denial)));
        if let Ok(place) = Arc::clone(&self.porch).try_acquire_owned() {
            connections.spawn(Arc::clone(self).excuse(stream, place));
        }
    }

    /// Answers whoever begins a request soon, and reads a little away so that the answer is seen.
    async fn excuse(self: Arc<Self>, stream: TcpStream, _place: OwnedSemaphorePermit) {
        let patience = self.limits.silence;
        let Peeked::Http(mut stream) = peek::peek(stream, patience, patience).await else { return };
        let told = async {
            stream.write_all(&respond::crowded()).await?;
            stream.shutdown().await?;
            let mut rest = [0; 4096];
            let mut left = self.limits.linger_bytes;
            while left > 0 {
                match stream.read(&mut rest).await? {
                    0 => break,
                    count => left = left.saturating_sub(count),
                }
            }
            std::io::Result::Ok(())
        };
        if let Ok(Err(error)) = timeout(self.limits.linger, told).await {
            tracing::debug!(%error, "a client that was turned away did not wait");
        }
    }
}
