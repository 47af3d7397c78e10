//! How much of what was written to a socket its peer has not read yet.

#![expect(unsafe_code, reason = "an ioctl that writes a number through a pointer")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::libc::{TIOCOUTQ, c_int};

mod raw {
    nix::ioctl_read_bad!(outq, super::TIOCOUTQ, super::c_int);
}

/// Whether everything that was written to a stream socket of this machine has been read
/// (`SIOCOUTQ`, unix(7)).
pub fn is_read(socket: impl AsFd) -> io::Result<bool> {
    let mut left: c_int = 0;
    // SAFETY: the call writes one int to the address given, which is that of `left`.
    unsafe { raw::outq(socket.as_fd().as_raw_fd(), &raw mut left) }?;
    Ok(left == 0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_the_peer_has_not_read_is_told() {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        assert!(is_read(&one).unwrap());
        one.write_all(b"abc").unwrap();
        assert!(!is_read(&one).unwrap());
        other.read_exact(&mut [0; 2]).unwrap();
        assert!(!is_read(&one).unwrap());
        other.read_exact(&mut [0; 1]).unwrap();
        assert!(is_read(&one).unwrap());
    }
}
