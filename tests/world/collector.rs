//! A collector of OpenTelemetry's logs, as far as a client can tell: it reads what is posted and says
//! that it has it.
//!
//! The messages are written down once more from the numbers that the protocol publishes.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message;
use rustls::{ServerConnection, StreamOwned};

use super::World;
use super::authority::Authority;

/// `ExportLogsServiceRequest`.
#[derive(Message)]
struct Posted {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<ResourceLogs>,
}

/// `ResourceLogs`.
#[derive(Message)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<ScopeLogs>,
}

/// `Resource`.
#[derive(Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

/// `ScopeLogs`.
#[derive(Message)]
struct ScopeLogs {
    #[prost(message, repeated, tag = "2")]
    logs: Vec<LogRecord>,
}

/// `LogRecord`.
#[derive(Message)]
struct LogRecord {
    #[prost(fixed64, tag = "1")]
    time: u64,
    #[prost(string, tag = "3")]
    severity: String,
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    attributes: Vec<KeyValue>,
}

/// `KeyValue`.
#[derive(Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

/// `AnyValue`, as far as it is used.
#[derive(Message)]
struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 3")]
    any: Option<Any>,
}

/// The kinds of value.
#[derive(prost::Oneof)]
enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// A log as a test looks at it.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    /// When, in nanoseconds since the epoch.
    pub(crate) time: u64,
    /// How important.
    pub(crate) severity: String,
    /// In a few words.
    pub(crate) body: String,
    /// Its fields, numbers as text.
    pub(crate) fields: Vec<(String, String)>,
    /// What all of its source have in common.
    pub(crate) resource: Vec<(String, String)>,
}

impl Log {
    /// A field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What was posted so far: the head of each request, and the logs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<(Vec<String>, Vec<Log>)>>);

impl Collector {
    /// Listens on loopback of the host, for as long as that is there.
    pub(crate) fn start(world: &World, port: u16) -> Self {
        Self::listen(world, port, Self::take)
    }

    /// Takes what is posted, and never answers.
    pub(crate) fn start_silent(world: &World, port: u16) -> Self {
        Self::listen(world, port, |_, stream| {
            let mut stream = stream;
            drop(std::io::copy(&mut stream, &mut std::io::sink()));
        })
    }

    /// The same behind TLS, with a certificate of the simulated internet's authority.
    pub(crate) fn start_behind_tls(world: &World, port: u16) -> Self {
        Self::listen(world, port, |collector, stream| {
            let server = ServerConnection::new(Authority::the().server("127.0.0.1"));
            collector.take(StreamOwned::new(server.expect("a server"), stream));
        })
    }

    /// Listens and has every connection taken in a thread of its own.
    fn listen(world: &World, port: u16, take: fn(&Self, TcpStream)) -> Self {
        let collector = Self::default();
        let filled = collector.clone();
        world.host().run(move || {
            let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
            // The threads end with the test's process; what they hold is in the namespace alone.
            std::thread::spawn(move || filled.take_all(&listener, take));
        });
        collector
    }

    /// Takes what every client posts.
    fn take_all(&self, listener: &TcpListener, take: fn(&Self, TcpStream)) {
        for stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time");
            let filled = self.clone();
            std::thread::spawn(move || take(&filled, stream));
        }
    }

    /// The heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").0.clone()
    }

    /// The logs so far.
    pub(crate) fn logs(&self) -> Vec<Log> {
        self.0.lock().expect("not poisoned").1.clone()
    }

    /// Reads one request and answers it. A client that does not trust us asks nothing.
    fn take(&self, stream: impl Read + Write) {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|it| it > 0) {}
        if head.is_empty() {
            return;
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.and_then(|text| text.parse().ok()).unwrap_or(0)];
        reader.read_exact(&mut body).expect("all of it");
        let logs = logs(&Posted::decode(&*body).expect("the message"));
        let mut all = self.0.lock().expect("not poisoned");
        all.0.push(head);
        all.1.extend(logs);
        drop(all);
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n\
                      Content-Length: 0\r\nConnection: close\r\n\r\n";
        reader.get_mut().write_all(answer.as_bytes()).expect("it waits for the answer");
    }
}

/// The logs of a message.
fn logs(posted: &Posted) -> Vec<Log> {
    let of = |source: &ResourceLogs| {
        let resource = source.resource.as_ref().map(|it| fields(&it.attributes));
        let resource = resource.unwrap_or_default();
        let logs = source.scopes.iter().flat_map(|scope| &scope.logs);
        let log = |log: &LogRecord| Log {
            time: log.time,
            severity: log.severity.clone(),
            body: log.body.as_ref().map(text).unwrap_or_default(),
            fields: fields(&log.attributes),
            resource: resource.clone(),
        };
        logs.map(log).collect::<Vec<_>>()
    };
    posted.resources.iter().flat_map(of).collect()
}

/// Keys with their values.
fn fields(all: &[KeyValue]) -> Vec<(String, String)> {
    let value = |it: &KeyValue| it.value.as_ref().map(text).unwrap_or_default();
    all.iter().map(|it| (it.key.clone(), value(it))).collect()
}

/// A value as text.
fn text(value: &AnyValue) -> String {
    match &value.any {
        Some(Any::Text(text)) => text.clone(),
        Some(Any::Number(number)) => number.to_string(),
        None => String::new(),
    }
}
