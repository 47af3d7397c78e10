//! Messages with descriptors beside them, over a unix socket.
//!
//! *Standing*: the usher tells the proxy of a process by a handle of it; the first process of a
//! network namespace hands over what it has opened there. *Never*: decides who gets which.

#![expect(unsafe_code, reason = "the kernel hands descriptors over as bare numbers")]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// How many descriptors one message may carry here.
const MOST: usize = 16;

/// Sends a message and lends descriptors with it. One without a byte may be passed over.
pub fn send(socket: BorrowedFd<'_>, message: &[u8], lent: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_with((socket, MsgFlags::empty()), message, lent)
}

/// Does so with flags for the call.
pub fn send_with(
    (socket, flags): (BorrowedFd<'_>, MsgFlags),
    message: &[u8],
    lent: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let numbers: Vec<RawFd> = lent.iter().map(AsRawFd::as_raw_fd).collect();
    let beside = [ControlMessage::ScmRights(&numbers)];
    let beside = if numbers.is_empty() { &[][..] } else { &beside[..] };
    let flags = flags | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(message)], beside, flags, None)?;
    Ok(())
}

/// Receives a message, and the descriptors that came with it. A length of zero is the end.
pub fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; MOST]);
    let mut parts = [IoSliceMut::new(into)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut received = Vec::new();
    for beside in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = beside {
            // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
            received.extend(numbers.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, received))
}

/// Whether the next message that waits has descriptors with it. `EAGAIN` where none waits.
pub fn has_descriptors(socket: BorrowedFd<'_>) -> nix::Result<bool> {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut [], None, flags)?;
    // There was no room for them.
    Ok(message.flags.contains(MsgFlags::MSG_CTRUNC))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    #[test]
    fn descriptors_arrive_beside_their_message_as_the_same_files() {
        let (one, other) = UnixDatagram::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        let (mut end, start) = io::pipe().unwrap();
        send(one.as_fd(), b"look", &[file.as_fd(), start.as_fd()]).unwrap();
        drop(start);
        let mut bytes = [0; 8];
        let (length, received) = receive(other.as_fd(), &mut bytes).unwrap();
        let mut received = received.into_iter().map(File::from);
        let (null, mut start) = (received.next().unwrap(), received.next().unwrap());
        assert_eq!(&bytes[..length], b"look");
        assert_eq!(null.metadata().unwrap().ino(), file.metadata().unwrap().ino());
        start.write_all(b"through").unwrap();
        drop(start);
        let mut text = String::new();
        end.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), received.count()), ("through", 0));
    }

    #[test]
    fn what_waits_tells_whether_it_has_descriptors() {
        let (one, other) = UnixDatagram::pair().unwrap();
        assert_eq!(has_descriptors(other.as_fd()), Err(nix::errno::Errno::EAGAIN));
        send(one.as_fd(), b"none", &[]).unwrap();
        send(one.as_fd(), b"one", &[one.as_fd()]).unwrap();
        let mut bytes = [0; 8];
        for (has, text) in [(false, &b"none"[..]), (true, b"one")] {
            assert_eq!(has_descriptors(other.as_fd()), Ok(has));
            let (length, received) = receive(other.as_fd(), &mut bytes).unwrap();
            assert_eq!((&bytes[..length], received.len()), (text, usize::from(has)));
        }
    }

    #[test]
    fn the_end_of_the_line_is_no_descriptor() {
        let (one, other) = UnixStream::pair().unwrap();
        drop(one);
        let (length, received) = receive(other.as_fd(), &mut [0]).unwrap();
        assert_eq!((length, received.len()), (0, 0));
    }
}
