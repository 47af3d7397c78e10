//! How the stage's threads end: they poll a pipe that closes when the world goes.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// From how many connections on those that are over are let go.
const MANY: usize = 256;

/// Ends every thread of a world when it is dropped.
pub(crate) struct Stop {
    _held: UnixStream,
    watch: Watch,
}

/// What a thread polls and where it leaves its connections to be shut.
#[derive(Clone)]
pub(crate) struct Watch {
    closed: Arc<UnixStream>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Stop {
    /// A new one, not yet stopped.
    pub(crate) fn new() -> Self {
        let (held, closed) = UnixStream::pair().expect("a pair of sockets");
        Self { _held: held, watch: Watch { closed: Arc::new(closed), streams: Arc::default() } }
    }

    /// What threads watch.
    pub(crate) fn watch(&self) -> Watch {
        self.watch.clone()
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        for stream in self.watch.streams.lock().expect("not poisoned").drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Watch {
    /// Remembers a connection, so that the end of the world ends it.
    pub(crate) fn remember(&self, stream: &TcpStream) {
        if let Ok(copy) = stream.try_clone() {
            let mut streams = self.streams.lock().expect("not poisoned");
            // What both sides have closed is nobody's any more.
            if streams.len() >= MANY && streams.len().is_power_of_two() {
                streams.retain(|stream| stream.peer_addr().is_ok());
            }
            streams.push(copy);
        }
    }

    /// Which of the descriptors can be read; `None` at the end of the world.
    pub(crate) fn readable(&self, sources: &[BorrowedFd<'_>]) -> Option<Vec<usize>> {
        let mut polled: Vec<PollFd<'_>> = std::iter::once(self.closed.as_fd())
            .chain(sources.iter().copied())
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        while let Err(error) = poll(&mut polled, PollTimeout::NONE) {
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::Interrupted);
        }
        let mut ready = polled.iter().map(|fd| fd.any().unwrap_or_default());
        let ended = ready.next().unwrap_or_default();
        (!ended).then(|| ready.enumerate().filter_map(|(place, is)| is.then_some(place)).collect())
    }
}
