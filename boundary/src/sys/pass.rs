//! Messages with a descriptor beside them, over a unix socket.
//!
//! *Standing*: the usher tells the proxy of a process by a handle of it.

#![expect(unsafe_code, reason = "received descriptors come as plain numbers")]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

/// Sends a message and lends a descriptor with it.
pub fn send(
    socket: BorrowedFd<'_>,
    message: &[u8],
    lent: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let fds: Vec<RawFd> = lent.iter().map(AsRawFd::as_raw_fd).collect();
    let beside = [ControlMessage::ScmRights(&fds)];
    let beside = if fds.is_empty() { &[][..] } else { &beside[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(message)], beside, flags, None)?;
    Ok(())
}

/// Receives a message, and the descriptor that came with it. A length of zero is the end.
pub fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = nix::cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(into)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut received = None;
    for beside in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = beside {
            for fd in fds {
                // SAFETY: the kernel has just made the descriptor for this message, and nobody else
                // has seen it.
                received = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    Ok((message.bytes, received))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_descriptor_arrives_beside_its_message() {
        let (one, other) = UnixDatagram::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        send(one.as_fd(), b"look", Some(file.as_fd())).unwrap();
        let mut bytes = [0; 8];
        let (length, received) = receive(other.as_fd(), &mut bytes).unwrap();
        let received = std::fs::File::from(received.unwrap()).metadata().unwrap();
        assert_eq!(&bytes[..length], b"look");
        assert_eq!(received.ino(), file.metadata().unwrap().ino());
    }
}
