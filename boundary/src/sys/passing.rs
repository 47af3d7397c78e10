//! Descriptors that go from one process to another over a unix socket.
//!
//! *Never*: decides who gets which.

#![expect(unsafe_code, reason = "the kernel hands descriptors over as bare numbers")]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// How many descriptors one message may carry here.
const MOST: usize = 16;

/// Sends descriptors, with a byte, because a message without one may be passed over.
pub fn send(line: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&numbers)];
    let content = [IoSlice::new(&[0])];
    sendmsg::<()>(line.as_raw_fd(), &content, &control, MsgFlags::empty(), None)?;
    Ok(())
}

/// Receives what [`send`] sent. None at the end of the line.
pub fn receive(line: &UnixStream) -> io::Result<Option<Vec<OwnedFd>>> {
    let mut byte = [0];
    let mut content = [IoSliceMut::new(&mut byte)];
    let mut control = nix::cmsg_space!([RawFd; MOST]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(line.as_raw_fd(), &mut content, Some(&mut control), flags)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut descriptors = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
            descriptors.extend(numbers.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(Some(descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_descriptor_arrives_as_the_same_file() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut end, start) = io::pipe().unwrap();
        send(&one, &[start.as_fd()]).unwrap();
        drop(start);
        let mut arrived = receive(&other).unwrap().unwrap();
        let mut start = File::from(arrived.pop().unwrap());
        io::Write::write_all(&mut start, b"through").unwrap();
        drop(start);
        let mut text = String::new();
        end.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn the_end_of_the_line_is_no_descriptor() {
        let (one, other) = UnixStream::pair().unwrap();
        drop(one);
        assert!(receive(&other).unwrap().is_none());
    }
}
