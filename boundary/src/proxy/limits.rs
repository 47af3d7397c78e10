//! How much and how long: every bound of the proxy, by name.

use std::time::Duration;

/// The proxy's bounds. Over one of them, that client alone gets a clear error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections of the command carried at once.
    pub connections: usize,
    /// Bytes of one request head, or of a response head.
    pub head_bytes: usize,
    /// Header fields of one message.
    pub headers: usize,
    /// From the first byte of a request head (or a TLS greeting) to its last.
    pub head_time: Duration,
    /// A kept-alive connection without a request, or a relayed stream without a byte.
    pub idle: Duration,
    /// A client that says nothing on a port where HTTP is not usual: it waits for the server to
    /// speak first, and is refused soon.
    pub silence: Duration,
    /// Resolving a name, and making one connection to the upstream, TLS included.
    pub dial: Duration,
    /// One address of several, before the next is tried.
    pub attempt: Duration,
    /// Idle upstream connections kept for one host.
    pub idle_per_host: usize,
    /// Idle upstream connections kept in all.
    pub idle_upstream: usize,
    /// How long an upstream connection is kept idle.
    pub idle_upstream_time: Duration,
    /// Bytes of a refused request's body that are read away before the connection is given up.
    pub linger_bytes: usize,
    /// How long that may take.
    pub linger: Duration,
    /// How long open connections may go on after the session's end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            head_bytes: 64 * 1024,
            headers: 100,
            head_time: Duration::from_secs(30),
            idle: Duration::from_mins(10),
            silence: Duration::from_secs(1),
            dial: Duration::from_secs(30),
            attempt: Duration::from_secs(5),
            idle_per_host: 64,
            idle_upstream: 1024,
            // Below the 60 s after which common servers and balancers close an idle connection.
            idle_upstream_time: Duration::from_secs(50),
            linger_bytes: 1024 * 1024,
            linger: Duration::from_secs(2),
            drain: Duration::from_secs(5),
        }
    }
}
