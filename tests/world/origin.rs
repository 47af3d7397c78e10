//! The simulated internet's servers, on every address.
//!
//! | port | speaks |
//! |---|---|
//! | 80, 8080, 3128 | HTTP/1.1 |
//! | 443, 8443 | the same in TLS, with a certificate for the name or address |
//! | 7, 5432 | whatever it hears, back |
//! | 22 | first: a banner; then whatever it hears, back |
//! | 53 | DNS |
//! | 9443 | HTTP/2 in TLS, and nothing else |
//! | 50051 | HTTP/2 without TLS |
//!
//! What HTTP answers is in the path: `/echo` the request's own bytes, `/status/N` that status,
//! `/size/N` that many bytes, `/stream/NAME` a chunk, then another once the test opens the gate of
//! that name, `/moved/HOST` the way to that host, `/hang/NAME` nothing before the gate, `/files/PATH` a file of the world's folder `files`;
//! every other path a line that names host and path.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustls::server::Acceptor;
use rustls::{ServerConnection, StreamOwned};

use super::authority::Authority;
use super::http2;
use super::names::Names;
use super::place::Place;
use super::request::{Head, Request};
use super::stop::Watch;

/// How long a gate may stay shut before the server gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is spoken at a port.
#[derive(Debug, Clone, Copy)]
enum Service {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 in TLS.
    Https,
    /// Everything comes back.
    Echo,
    /// The server speaks first.
    Banner,
    /// DNS over TCP.
    Dns,
    /// HTTP/2, in TLS or not.
    Http2 { is_secure: bool },
}

/// Every port that somebody listens on, at every address.
const PORTS: &[(u16, Service)] = &[
    (80, Service::Http),
    (8080, Service::Http),
    (3128, Service::Http),
    (443, Service::Https),
    (8443, Service::Https),
    (7, Service::Echo),
    (5432, Service::Echo),
    (22, Service::Banner),
    (53, Service::Dns),
    (9443, Service::Http2 { is_secure: true }),
    (50051, Service::Http2 { is_secure: false }),
];

/// The servers of one world and what they saw.
#[derive(Clone)]
pub(crate) struct Origins {
    seen: Arc<Mutex<Vec<Request>>>,
    gates: Arc<(Mutex<HashSet<String>>, Condvar)>,
    connections: Arc<AtomicUsize>,
    names: Names,
    files: PathBuf,
    watch: Watch,
}

impl Origins {
    /// Opens every port.
    pub(crate) fn serve(internet: &Place, names: Names, files: PathBuf, watch: Watch) -> Self {
        let origins = Self {
            seen: Arc::default(),
            gates: Arc::default(),
            connections: Arc::default(),
            names,
            files,
            watch,
        };
        let serving = origins.clone();
        internet.run(move || {
            let listeners: Vec<TcpListener> = PORTS
                .iter()
                .map(|(port, _)| TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port)))
                .map(|listener| listener.expect("the port is free"))
                .collect();
            std::thread::spawn(move || serving.accept_all(&listeners));
        });
        origins
    }

    /// Every request since the last call, in the order in which they were complete.
    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.seen.lock().expect("not poisoned"))
    }

    /// Notes a request for the test to look at.
    pub(super) fn note(&self, request: Request) {
        self.seen.lock().expect("not poisoned").push(request);
    }

    /// Lets whoever waits at the gate go on, now and later.
    pub(crate) fn open(&self, gate: &str) {
        self.gates.0.lock().expect("not poisoned").insert(gate.to_owned());
        self.gates.1.notify_all();
    }

    /// The accepting thread.
    fn accept_all(&self, listeners: &[TcpListener]) {
        let sources: Vec<_> = listeners.iter().map(std::os::fd::AsFd::as_fd).collect();
        while let Some(ready) = self.watch.readable(&sources) {
            // A client that has gone again is the business of the client.
            let accepted = ready.iter().map(|place| (listeners[*place].accept(), PORTS[*place].1));
            for (stream, service) in
                accepted.filter_map(|(client, service)| Some((client.ok()?.0, service)))
            {
                self.welcome(stream, service);
            }
        }
    }

    /// Gives a connection a thread of its own, which ends with it.
    fn welcome(&self, stream: TcpStream, service: Service) {
        self.watch.remember(&stream);
        let origins = self.clone();
        std::thread::spawn(move || drop(origins.serve_one(stream, service)));
    }

    /// One connection, to its end.
    fn serve_one(&self, mut stream: TcpStream, service: Service) -> io::Result<()> {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let local = stream.local_addr()?;
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        stream.set_nodelay(true)?;
        match service {
            Service::Http => self.speak(stream, &Head { local, number, sni: None }),
            Service::Https => {
                let (stream, sni) = accept_tls(stream, local)?;
                self.speak(stream, &Head { local, number, sni: Some(sni) })
            }
            Service::Echo => echo(&mut stream),
            Service::Banner => {
                stream.write_all(b"SSH-2.0-simulated\r\n")?;
                echo(&mut stream)
            }
            Service::Dns => self.names.converse(&mut stream),
            Service::Http2 { is_secure } => {
                let head = Head { local, number, sni: None };
                http2::serve(self.clone(), stream, head, is_secure)
            }
        }
    }

    /// HTTP/1.1: answers requests until one asks to close or nothing more comes.
    fn speak(&self, mut stream: impl Read + Write, head: &Head) -> io::Result<()> {
        let mut rest = Vec::new();
        while let Some(request) = Request::read(&mut stream, &mut rest, head)? {
            self.note(request.clone());
            self.reply(&mut stream, &request)?;
            if request.header("connection").is_some_and(|value| value == "close") {
                break;
            }
        }
        Ok(())
    }

    /// Answers as the path says.
    fn reply(&self, stream: &mut impl Write, request: &Request) -> io::Result<()> {
        let path = request.target.split('?').next().unwrap_or_default();
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let what = parts.next().unwrap_or_default();
        let argument = parts.next().unwrap_or_default();
        let host = request.header("host").unwrap_or("?");
        let line = format!("this is {host} {}\n", request.target);
        match what {
            "echo" => whole(stream, "200 OK", &request.bytes),
            "status" if ["204", "304"].contains(&argument) => {
                bare(stream, &format!("{argument} As Asked"))
            }
            "status" => whole(stream, &format!("{argument} As Asked"), line.as_bytes()),
            "size" => large(stream, argument.parse().unwrap_or(0)),
            "files" if request.method == "HEAD" => self.head_of_file(stream, argument),
            "files" => self.file(stream, argument),
            "moved" => whole(stream, &format!("302 Found\r\nLocation: http://{argument}/"), b""),
            "hang" => {
                self.wait(argument);
                whole(stream, "200 OK", line.as_bytes())
            }
            "stream" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                stream.write_all(b"6\r\nfirst\n\r\n")?;
                stream.flush()?;
                self.wait(argument);
                stream.write_all(b"7\r\nsecond\n\r\n0\r\n\r\n")?;
                stream.flush()
            }
            _ if request.method == "HEAD" => whole(stream, "200 OK", b""),
            _ => whole(stream, "200 OK", line.as_bytes()),
        }
    }

    /// Answers with a file, or a folder's `index.html`.
    fn file(&self, stream: &mut impl Write, path: &str) -> io::Result<()> {
        let mut file = self.files.join(path);
        if file.is_dir() {
            file.push("index.html");
        }
        match fs::read(&file) {
            Ok(content) if path.ends_with('/') => typed(stream, "text/html", &content),
            Ok(content) => typed(stream, "application/octet-stream", &content),
            Err(_) => whole(stream, "404 Not Found", b"no such file\n"),
        }
    }

    /// Answers with what stands before a file's content.
    fn head_of_file(&self, stream: &mut impl Write, path: &str) -> io::Result<()> {
        let mut answer = Vec::new();
        self.file(&mut answer, path)?;
        let end = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("it has a head");
        stream.write_all(&answer[..end + 4])?;
        stream.flush()
    }

    /// Waits until the gate is open.
    pub(super) fn wait(&self, gate: &str) {
        let open = self.gates.0.lock().expect("not poisoned");
        drop(self.gates.1.wait_timeout_while(open, PATIENCE, |open| !open.contains(gate)));
    }
}

/// A response without content.
fn bare(stream: &mut impl Write, status: &str) -> io::Result<()> {
    stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes())?;
    stream.flush()
}

/// A response with a type.
fn typed(stream: &mut impl Write, kind: &str, body: &[u8]) -> io::Result<()> {
    whole(stream, &format!("200 OK\r\nContent-Type: {kind}"), body)
}

/// A response with a length.
fn whole(stream: &mut impl Write, status: &str, body: &[u8]) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())?;
    stream.flush()
}

/// A response of so many bytes, piece by piece.
fn large(stream: &mut impl Write, mut left: usize) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let piece = vec![b'x'; 64 << 10];
    while left > 0 {
        let now = left.min(piece.len());
        stream.write_all(&piece[..now])?;
        left -= now;
    }
    stream.flush()
}

/// Sends back what comes, and the end too: the world holds a copy of the connection.
fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes)? {
            0 => return stream.shutdown(Shutdown::Write),
            length => stream.write_all(&bytes[..length])?,
        }
    }
}

/// Answers a TLS handshake as the named host, or as the address where no name is given.
fn accept_tls(
    mut stream: TcpStream,
    local: SocketAddr,
) -> io::Result<(StreamOwned<ServerConnection, TcpStream>, String)> {
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        if acceptor.read_tls(&mut stream)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) => {}
            Err((error, _)) => return Err(io::Error::other(error)),
        }
    };
    let named = accepted.client_hello().server_name().map(str::to_owned);
    let name = named.unwrap_or_else(|| local.ip().to_string());
    let connection = accepted
        .into_connection(Authority::the().server(&name))
        .map_err(|(error, _)| io::Error::other(error))?;
    Ok((StreamOwned::new(connection, stream), name))
}
