//! The calls that set and read options, as far as they lead elsewhere, or would tell what a datagram
//! socket really is.

use boundary_common::option;
use nix::errno::Errno;
use nix::libc;

use super::service::{Asked, Reply, Shared};
use super::sockets::Entry;
use crate::jail::usher::report::What;
use crate::sys::notify::Answer;

/// `UDP_SEGMENT` and `UDP_GRO` of linux/udp.h: that one message is several datagrams. What we carry is one, and
/// whoever is told so sends them one by one.
const CUTS: [u32; 2] = [SEGMENT.1.cast_unsigned(), 104];

/// What says the same beside a message.
pub(super) const SEGMENT: (i32, i32) = (libc::IPPROTO_UDP, 103);

/// `setsockopt(2)`. Which option it is stands in registers; what it is set to does not matter.
pub(super) fn set(shared: &Shared, asked: &Asked) -> nix::Result<Reply> {
    let [level, name] = [1, 2].map(|place| asked.number(place).cast_unsigned());
    let entry = asked.socket().ok().and_then(|inode| shared.sockets().at(inode).cloned());
    // Another socket may have the number by the time that the kernel looks, so that what is refused is
    // refused on any.
    if !option::is_allowed(level, name) {
        if matches!(entry, Some(Entry::Unix(_))) && level != libc::SOL_SOCKET.cast_unsigned() {
            return Err(Errno::EOPNOTSUPP);
        }
        shared.tell(shared.caller(asked)?, What::Set { level, name });
        return Err(Errno::EPERM);
    }
    Ok(match entry {
        Some(Entry::Datagram(_))
            if level == libc::IPPROTO_UDP.cast_unsigned() && CUTS.contains(&name) =>
        {
            return Err(Errno::ENOPROTOOPT);
        }
        // It would have had no other effect on a datagram socket than to be set.
        Some(Entry::Datagram(_)) => Reply::Answer(Answer::Done(0)),
        Some(Entry::Unix(_) | Entry::Stream(_) | Entry::Connected(_) | Entry::Listening) | None => {
            Reply::Continue
        }
    })
}

/// `getsockopt(2)` of what a socket is.
pub(super) fn read(shared: &Shared, asked: &Asked) -> nix::Result<Reply> {
    let Some(datagram) = shared.datagram(asked)? else { return Ok(Reply::Continue) };
    let is_unix = datagram.family() == libc::AF_UNIX;
    let value = match asked.number(2) {
        libc::SO_TYPE => libc::SOCK_DGRAM,
        libc::SO_PROTOCOL if is_unix => 0,
        libc::SO_PROTOCOL => libc::IPPROTO_UDP,
        libc::SO_DOMAIN => datagram.family(),
        _ => return Ok(Reply::Continue),
    };
    let room = asked.thread.read(asked.arguments[4], 4)?;
    let room = room.first_chunk().map_or(0, |room| i32::from_ne_bytes(*room));
    let room = usize::try_from(room).map_err(|_negative| Errno::EINVAL)?.min(4);
    let value = value.to_ne_bytes();
    asked.thread.write(asked.arguments[3], value.get(..room).unwrap_or(&value))?;
    let length = u32::try_from(room).unwrap_or_default();
    asked.thread.write(asked.arguments[4], &length.to_ne_bytes())?;
    Ok(Reply::Answer(Answer::Done(0)))
}
