//! What `sendmsg(2)` and `sendmmsg(2)` are given, read from the memory of whoever calls.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use super::thread::Thread;
use crate::sys::reach;

/// The size of `struct msghdr`, behind which `struct mmsghdr` has the length.
const HEADER: usize = 56;

/// The size of `struct mmsghdr`.
pub(in crate::jail) const HEADERS: u64 = 64;

/// How many messages one call may have, and one message parts.
pub(in crate::jail) const MOST: u64 = 1024;

/// The longest that is carried beside a message: what the kernel takes unless it is told otherwise
/// (`net.core.optmem_max`).
const MOST_BESIDE: u64 = 128 * 1024;

/// The size of `struct cmsghdr`: a length that counts it, a level and a type.
const HEAD: usize = 16;

/// How many descriptors a message may have (`SCM_MAX_FD`).
const MOST_LENT: usize = 253;

/// `struct msghdr`, as far as it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::jail) struct Header {
    pub(in crate::jail) at: u64,
    name: u64,
    name_length: u64,
    parts: u64,
    count: u64,
    beside: u64,
    beside_length: u64,
}

impl Header {
    /// Reads one from the memory of a thread.
    pub(in crate::jail) fn read(thread: Thread, at: u64) -> nix::Result<Self> {
        Ok(Self::parse(at, &thread.read(at, HEADER)?))
    }

    /// Reads those of `sendmmsg(2)`, of which there are so many, one by one as the kernel does. An error
    /// stands for one that cannot be read here; the kernel may well read it.
    pub(super) fn read_many(
        thread: Thread,
        at: u64,
        count: u64,
    ) -> impl Iterator<Item = nix::Result<Self>> {
        (0..count.min(MOST)).map(move |place| Self::read(thread, at.wrapping_add(place * HEADERS)))
    }

    fn parse(at: u64, bytes: &[u8]) -> Self {
        let word = |at: usize| number(bytes, at);
        Self {
            at,
            name: word(0),
            name_length: word(8) & u64::from(u32::MAX),
            parts: word(16),
            count: word(24),
            beside: word(32),
            beside_length: word(40),
        }
    }

    /// Where the address is, and how long: of a longer one the kernel takes the beginning.
    pub(in crate::jail) fn name(&self) -> (u64, u64) {
        let is_positive = i32::try_from(self.name_length).is_ok();
        (self.name, if is_positive { self.name_length.min(128) } else { self.name_length })
    }

    /// Whether anything goes beside the content.
    pub(in crate::jail) fn has_more(&self) -> bool {
        self.beside_length != 0
    }

    /// The parts of the message: where each lies, and how long it is.
    pub(in crate::jail) fn parts(&self, thread: Thread) -> nix::Result<Vec<(u64, u64)>> {
        if self.count > MOST {
            return Err(Errno::EMSGSIZE);
        }
        let length = usize::try_from(self.count * 16).map_err(|_wide| Errno::EMSGSIZE)?;
        let bytes = thread.read(self.parts, length)?;
        Ok(bytes.chunks_exact(16).map(|part| (number(part, 0), number(part, 8))).collect())
    }

    /// The message's content, if it is no longer than this.
    pub(in crate::jail) fn data(&self, thread: Thread, longest: usize) -> nix::Result<Vec<u8>> {
        let mut data = Vec::new();
        for (at, length) in self.parts(thread)? {
            data.extend(content(thread, (at, length), longest - data.len())?);
        }
        Ok(data)
    }

    /// The beginning of the message's content, so much of it at the most.
    pub(super) fn beginning(&self, thread: Thread, most: usize) -> nix::Result<Vec<u8>> {
        let mut data = Vec::new();
        for (at, length) in self.parts(thread)? {
            let room = most - data.len();
            let length = length.min(u64::try_from(room).unwrap_or(u64::MAX));
            data.extend(content(thread, (at, length), room)?);
        }
        Ok(data)
    }

    /// What is sent beside the content, as it is where it is sent from: with descriptors of this
    /// process, which are returned with it, and its number where the sender says its own.
    pub(super) fn beside(
        &self,
        thread: Thread,
        handle: BorrowedFd<'_>,
    ) -> nix::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let mut bytes = self.read_beside(thread)?;
        let share = |number| reach::share_descriptor(handle, number);
        let lent = translate(&mut bytes, share, |who| thread.may_claim(who))?;
        Ok((bytes, lent))
    }

    /// Whether something of a level and a type is sent beside the content.
    pub(in crate::jail) fn has_beside(
        &self,
        thread: Thread,
        what: (i32, i32),
    ) -> nix::Result<bool> {
        Ok(is_in(&self.read_beside(thread)?, what))
    }

    /// What is sent beside the content, as it is.
    fn read_beside(&self, thread: Thread) -> nix::Result<Vec<u8>> {
        if self.beside_length == 0 {
            return Ok(Vec::new());
        }
        if self.beside_length > MOST_BESIDE {
            return Err(Errno::ENOBUFS);
        }
        let length = usize::try_from(self.beside_length).map_err(|_wide| Errno::ENOBUFS)?;
        thread.read(self.beside, length)
    }
}

/// Whether one of these control messages, as far as they are whole, is of a level and a type.
fn is_in(mut rest: &[u8], what: (i32, i32)) -> bool {
    while rest.len() >= HEAD {
        if (int(rest, 8), int(rest, 12)) == what {
            return true;
        }
        let length = usize::try_from(number(rest, 0)).ok().filter(|length| *length >= HEAD);
        let next = length.and_then(|length| length.checked_next_multiple_of(size_of::<u64>()));
        rest = next.and_then(|next| rest.get(next..)).unwrap_or_default();
    }
    false
}

/// Replaces each descriptor in control messages by what `share` makes of it, and the sender's number by our
/// own, if the sender may claim what is said with it: a process, a user and a group.
fn translate(
    bytes: &mut [u8],
    share: impl Fn(i32) -> nix::Result<OwnedFd>,
    may_claim: impl Fn([u32; 3]) -> bool,
) -> nix::Result<Vec<OwnedFd>> {
    /// `SCM_RIGHTS` and `SCM_CREDENTIALS` of linux/socket.h.
    const RIGHTS: i32 = 1;
    const CREDENTIALS: i32 = 2;
    let mut lent = Vec::new();
    let mut rest = bytes;
    while rest.len() >= HEAD {
        let length = usize::try_from(number(rest, 0)).ok().filter(|length| *length >= HEAD);
        let length = length.filter(|length| *length <= rest.len()).ok_or(Errno::EINVAL)?;
        let (message, after) = std::mem::take(&mut rest).split_at_mut(length);
        let (head, content) = message.split_at_mut(HEAD);
        match (int(head, 8), int(head, 12)) {
            (libc::SOL_SOCKET, RIGHTS) => {
                if content.len() / size_of::<i32>() > MOST_LENT - lent.len() {
                    return Err(Errno::EINVAL);
                }
                for number in content.chunks_exact_mut(size_of::<i32>()) {
                    let shared = share(int(number, 0))?;
                    number.copy_from_slice(&shared.as_raw_fd().to_ne_bytes());
                    lent.push(shared);
                }
            }
            (libc::SOL_SOCKET, CREDENTIALS) => {
                let who = [0, 4, 8].map(|at| int(content, at).cast_unsigned());
                if content.len() != size_of_val(&who) {
                    return Err(Errno::EINVAL);
                }
                if !may_claim(who) {
                    return Err(Errno::EPERM);
                }
                if let Some(number) = content.first_chunk_mut() {
                    *number = std::process::id().to_ne_bytes();
                }
            }
            _ => {}
        }
        // Each begins where a word does.
        let padding = length.next_multiple_of(size_of::<u64>()) - length;
        rest = after.get_mut(padding..).unwrap_or_default();
    }
    Ok(lent)
}

/// Says in the `struct mmsghdr` at a place how long its message was.
pub(in crate::jail) fn write_length(thread: Thread, at: u64, length: usize) -> nix::Result<()> {
    let length = u32::try_from(length).unwrap_or_default();
    let header = u64::try_from(HEADER).unwrap_or_default();
    thread.write(at.wrapping_add(header), &length.to_ne_bytes())
}

/// What lies somewhere, if it is no longer than this.
pub(in crate::jail) fn content(
    thread: Thread,
    (at, length): (u64, u64),
    longest: usize,
) -> nix::Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(|_wide| Errno::EMSGSIZE)?;
    if length > longest {
        return Err(Errno::EMSGSIZE);
    }
    thread.read(at, length)
}

/// A number of 64 bits at a place, as the kernel has it.
fn number(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// An int at a place.
fn int(bytes: &[u8], at: usize) -> i32 {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;

    use super::*;

    /// A control message as the kernel takes it, with what fills it up.
    fn beside(level: i32, kind: i32, content: &[u8]) -> Vec<u8> {
        let length = 16 + content.len();
        let head = [&length.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes()].concat();
        let mut message = [head, content.to_vec()].concat();
        message.resize(length.next_multiple_of(8), 0);
        message
    }

    /// What becomes of them where every number but 9 leads to a file.
    fn translated(bytes: &[u8]) -> nix::Result<(Vec<u8>, usize)> {
        let null = File::open("/dev/null").unwrap();
        let share = |number| match number {
            9 => Err(Errno::EBADF),
            _ => null.as_fd().try_clone_to_owned().map_err(|_error| Errno::EMFILE),
        };
        let mut bytes = bytes.to_vec();
        let lent = translate(&mut bytes, share, |who| who == [77, 1000, 1001])?;
        // Each is the number of one that is held open meanwhile.
        let numbers = lent.iter().map(|lent| lent.as_raw_fd().to_ne_bytes());
        assert!(numbers.into_iter().all(|number| bytes.windows(4).any(|four| four == number)));
        Ok((bytes, lent.len()))
    }

    #[test]
    fn descriptors_and_the_senders_number_become_our_own() {
        let files = beside(libc::SOL_SOCKET, 1, &[3_i32, 4, 5].map(i32::to_ne_bytes).concat());
        let who = beside(libc::SOL_SOCKET, 2, &[77_u32, 1000, 1001].map(u32::to_ne_bytes).concat());
        let other = beside(libc::IPPROTO_IP, 1, &[9; 4]);
        let (bytes, lent) = translated(&[&files[..], &other, &who].concat()).unwrap();
        assert_eq!(lent, 3);
        assert_eq!(bytes.get(files.len()..files.len() + other.len()), Some(&other[..]));
        let who = bytes.get(files.len() + other.len() + 16..).unwrap();
        let expected = [std::process::id(), 1000, 1001].map(u32::to_ne_bytes).concat();
        assert!(who.starts_with(&expected), "{who:?}");
    }

    #[test]
    fn one_of_several_control_messages_is_found() {
        let [one, other] = [beside(libc::SOL_SOCKET, 1, &[9; 4]), beside(17, 103, &[1, 0])];
        let both = [one, other].concat();
        assert!(is_in(&both, (libc::SOL_SOCKET, 1)) && is_in(&both, (17, 103)));
        assert!(!is_in(&both, (17, 1)) && !is_in(&[], (0, 0)));
        for length in [0_u64, 15, u64::MAX] {
            let bytes = [&length.to_ne_bytes()[..], &[0; 8], &both].concat();
            assert!(!is_in(&bytes, (17, 103)), "{length}");
        }
    }

    #[test]
    fn what_the_kernel_would_not_take_is_an_error() {
        let files = beside(libc::SOL_SOCKET, 1, &9_i32.to_ne_bytes());
        assert_eq!(translated(&files), Err(Errno::EBADF));
        for length in [0_u64, 15, 25, u64::MAX] {
            let mut bytes = beside(libc::SOL_SOCKET, 5, &[0; 8]);
            bytes[..8].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(translated(&bytes), Err(Errno::EINVAL), "{length}");
        }
        let other = beside(libc::SOL_SOCKET, 2, &[77_u32, 0, 1001].map(u32::to_ne_bytes).concat());
        assert_eq!(translated(&other), Err(Errno::EPERM));
        let many = beside(libc::SOL_SOCKET, 1, &[3_i32; 254].map(i32::to_ne_bytes).concat());
        assert_eq!(translated(&many), Err(Errno::EINVAL));
        // Too little for another one is not looked at.
        let whole = beside(libc::SOL_SOCKET, 1, &3_i32.to_ne_bytes());
        assert_eq!(translated(&[&whole[..], &[0xff; 15]].concat()).map(|it| it.1), Ok(1));
        assert_eq!(translated(&[]), Ok((Vec::new(), 0)));
    }

    #[test]
    fn a_message_is_read_as_it_lies_in_memory() {
        let (name, parts) = (*b"\x01\0/tmp/a", [&b"one "[..], b"two"]);
        let parts = parts.map(|part| [part.as_ptr() as u64, part.len() as u64]);
        let control = [7_u8; 24];
        let words = [
            name.as_ptr() as u64,
            name.len() as u64,
            parts.as_ptr() as u64,
            parts.len() as u64,
            control.as_ptr() as u64,
            control.len() as u64,
            0,
            0,
        ];
        let own = Thread::new(std::process::id());
        let header = Header::read(own, words.as_ptr() as u64).unwrap();
        let mut read = Header::read_many(own, words.as_ptr() as u64, 1);
        assert_eq!((read.next(), read.next()), (Some(Ok(header)), None));
        // The end of what there is, as far as numbers go.
        let mut none = Header::read_many(own, u64::MAX - 63, 2);
        assert_eq!(none.next(), Some(Err(Errno::EFAULT)));
        assert_eq!(Header::read_many(own, u64::MAX, 0).next(), None);
        assert_eq!(header.name(), (name.as_ptr() as u64, 8));
        assert_eq!(header.data(own, 7).unwrap(), b"one two");
        assert_eq!(header.data(own, 6), Err(Errno::EMSGSIZE));
        assert_eq!(header.beginning(own, 6).unwrap(), b"one tw");
        assert_eq!(Header::read(own, 8), Err(Errno::EFAULT));
    }
}
