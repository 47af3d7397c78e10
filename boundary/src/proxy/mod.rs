//! The doors: Flow → Intent → ask → carry. Makes no decision.

mod flow;

pub use flow::{Flow, Origin};

use std::net::{TcpListener, UdpSocket};

/// The session's listening sockets, made before any privilege is dropped.
#[derive(Debug)]
pub struct Doors {
    /// Connections that the jail turned, and explicit proxy use.
    pub tcp: Vec<TcpListener>,
    /// The built-in resolver's sockets.
    pub dns: Vec<UdpSocket>,
}
