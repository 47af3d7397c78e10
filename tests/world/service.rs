//! A service of the host on its own loopback addresses, which the command must not reach unasked.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, TcpListener};
use std::os::fd::AsFd as _;

use super::stop::Watch;

/// Answers every request on the port, v4 and v6, until the world ends.
pub(crate) fn serve(port: u16, watch: Watch) {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("the port is free");
    std::thread::spawn(move || {
        while watch.readable(&[listener.as_fd()]).is_some() {
            let Ok((mut stream, _)) = listener.accept() else { continue };
            watch.remember(&stream);
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok_and(|length| length > 0) {
                let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nhost service\n";
                // A client that has gone is the business of the client.
                drop(stream.write_all(reply));
            }
        }
    });
}
