//! A workspace agent as boundary sees it: a unix socket that takes frames and says nothing.
//!
//! *Standing*: its messages are written down here once more, from the published field numbers alone.
//! *Never*: reads a frame that a real one would refuse.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket;
use prost::Message as _;

/// `BoundaryMessage`
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(message, optional, tag = "1")]
    logs: Option<Report>,
    #[prost(message, optional, tag = "2")]
    status: Option<Status>,
}

/// `BoundaryStatus`
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Status {
    #[prost(int64, tag = "1")]
    channel_full: i64,
    #[prost(int64, tag = "2")]
    batch_full: i64,
}

/// `ReportBoundaryLogsRequest`
#[derive(Clone, PartialEq, prost::Message)]
struct Report {
    #[prost(message, repeated, tag = "1")]
    logs: Vec<BoundaryLog>,
    #[prost(string, tag = "2")]
    session_id: String,
    #[prost(string, tag = "3")]
    confined_process_name: String,
}

/// `BoundaryLog`
#[derive(Clone, PartialEq, prost::Message)]
struct BoundaryLog {
    #[prost(bool, tag = "1")]
    allowed: bool,
    #[prost(message, optional, tag = "2")]
    time: Option<Timestamp>,
    #[prost(message, optional, tag = "3")]
    http_request: Option<HttpRequest>,
    #[prost(int32, tag = "4")]
    sequence_number: i32,
}

/// `google.protobuf.Timestamp`
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// `BoundaryLog.HttpRequest`
#[derive(Clone, PartialEq, prost::Message)]
struct HttpRequest {
    #[prost(string, tag = "1")]
    method: String,
    #[prost(string, tag = "2")]
    url: String,
    #[prost(string, tag = "3")]
    matched_rule: String,
}

/// One request as the agent got it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reported {
    pub(crate) sequence: i32,
    pub(crate) session: String,
    pub(crate) process: String,
    pub(crate) allowed: bool,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) rule: String,
    pub(crate) seconds: i64,
}

/// What an agent has got so far, over all its lives.
#[derive(Debug, Default)]
struct Got {
    requests: Vec<Reported>,
    dropped: i64,
    tags: Vec<u8>,
    connections: usize,
}

/// An agent, running or not.
pub(crate) struct Agent {
    path: PathBuf,
    got: Arc<Mutex<Got>>,
    knows_envelopes: bool,
    /// Whether it takes connections and reads nothing.
    is_deaf: Arc<AtomicBool>,
    life: Option<Life>,
}

/// How an agent reads.
#[derive(Clone)]
struct Manner {
    knows_envelopes: bool,
    is_deaf: Arc<AtomicBool>,
}

/// A running agent's thread.
struct Life {
    is_over: Arc<AtomicBool>,
    /// Where it listens, under whatever name.
    listener: UnixListener,
    /// The connections that are open, by their numbers.
    streams: Arc<Streams>,
    thread: JoinHandle<()>,
}

impl Agent {
    /// One that does not run yet.
    pub(crate) fn at(path: &Path) -> Self {
        let (got, is_deaf) = (Arc::default(), Arc::default());
        Self { path: path.to_owned(), got, knows_envelopes: true, is_deaf, life: None }
    }

    /// One of the first agents, which hang up on anything but the bare request.
    pub(crate) fn of_the_first(path: &Path) -> Self {
        let mut agent = Self::at(path);
        agent.knows_envelopes = false;
        agent
    }

    /// Starts it, over whatever socket an earlier life left.
    pub(crate) fn start(mut self) -> Self {
        self.begin();
        self
    }

    /// Has it read nothing, or go on.
    pub(crate) fn be_deaf(&self, is_deaf: bool) {
        self.is_deaf.store(is_deaf, Ordering::SeqCst);
    }

    /// Starts it.
    pub(crate) fn begin(&mut self) {
        drop(std::fs::remove_file(&self.path));
        let listener = UnixListener::bind(&self.path).expect("the place is ours");
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&self.path, everybody).expect("it is ours");
        let (got, manner) = (Arc::clone(&self.got), self.manner());
        let is_over = Arc::new(AtomicBool::new(false));
        let streams = Arc::new(Mutex::new(BTreeMap::new()));
        let (over, open) = (Arc::clone(&is_over), Arc::clone(&streams));
        let ours = listener.try_clone().expect("a descriptor");
        let thread = thread::spawn(move || {
            let accepted = listener.incoming().map_while(Result::ok);
            for stream in accepted.take_while(|_| !over.load(Ordering::SeqCst)) {
                attend(stream, (&got, &open), manner.clone());
            }
        });
        self.life = Some(Life { is_over, listener: ours, streams, thread });
    }

    /// How it reads.
    fn manner(&self) -> Manner {
        let is_deaf = Arc::clone(&self.is_deaf);
        Manner { knows_envelopes: self.knows_envelopes, is_deaf }
    }

    /// Kills it, with whatever it had not read.
    pub(crate) fn kill(&mut self) {
        let Some(Life { is_over, listener, streams, thread }) = self.life.take() else { return };
        is_over.store(true, Ordering::SeqCst);
        // Whoever waits for a connection is woken; that may be nobody any more.
        socket::shutdown(listener.as_raw_fd(), socket::Shutdown::Both).unwrap_or_default();
        thread.join().expect("no panic");
        for stream in streams.lock().expect("no panic").values() {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// The requests so far, each once, in the order of their numbers.
    pub(crate) fn requests(&self) -> Vec<Reported> {
        let mut requests = self.got.lock().expect("no panic").requests.clone();
        requests.sort_unstable();
        requests.dedup();
        requests
    }

    /// How many it was told were dropped.
    pub(crate) fn dropped(&self) -> i64 {
        self.got.lock().expect("no panic").dropped
    }

    /// The tags of the frames so far, and how many connections there were.
    pub(crate) fn spoken(&self) -> (Vec<u8>, usize) {
        let got = self.got.lock().expect("no panic");
        (got.tags.clone(), got.connections)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        drop(std::fs::remove_file(&self.path));
    }
}

/// Connections by their numbers.
type Streams = Mutex<BTreeMap<usize, UnixStream>>;

/// Reads a connection in a thread of its own. Only what is open costs a descriptor.
fn attend(stream: UnixStream, (got, open): (&Arc<Mutex<Got>>, &Arc<Streams>), manner: Manner) {
    let mut counted = got.lock().expect("no panic");
    counted.connections += 1;
    let number = counted.connections;
    drop(counted);
    let copy = stream.try_clone().expect("a descriptor");
    open.lock().expect("no panic").insert(number, copy);
    let (got, open) = (Arc::clone(got), Arc::clone(open));
    thread::spawn(move || {
        drop(read(stream, &got, &manner));
        drop(open.lock().expect("no panic").remove(&number));
    });
}

/// Reads frames until one breaks the protocol or the connection ends.
fn read(mut stream: UnixStream, got: &Mutex<Got>, manner: &Manner) -> io::Result<()> {
    loop {
        while manner.is_deaf.load(Ordering::SeqCst) {
            thread::park_timeout(Duration::from_millis(2));
        }
        let mut head = [0; 4];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        got.lock().expect("no panic").tags.push(head[0]);
        let knows = head[0] == 1 || (head[0] == 2 && manner.knows_envelopes);
        if !knows || length > 1 << 15 {
            return stream.shutdown(Shutdown::Both);
        }
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        let payload = payload.as_slice();
        let (logs, status) = if head[0] == 1 {
            (Some(Report::decode(payload).map_err(io::Error::other)?), None)
        } else {
            let Envelope { logs, status } = Envelope::decode(payload).map_err(io::Error::other)?;
            (logs, status)
        };
        let mut got = got.lock().expect("no panic");
        let full = status.map_or(0, |status| status.channel_full + status.batch_full);
        got.dropped += full;
        got.requests.extend(logs.into_iter().flat_map(reported));
    }
}

/// The requests of a report.
fn reported(report: Report) -> impl Iterator<Item = Reported> {
    let Report { logs, session_id, confined_process_name } = report;
    logs.into_iter().map(move |log| {
        let request = log.http_request.expect("nothing else can be told");
        Reported {
            sequence: log.sequence_number,
            session: session_id.clone(),
            process: confined_process_name.clone(),
            allowed: log.allowed,
            method: request.method,
            url: request.url,
            rule: request.matched_rule,
            seconds: log.time.expect("a time").seconds,
        }
    })
}
