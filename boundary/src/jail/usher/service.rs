//! The usher at work: every question of the filter gets one answer.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockaddrLike as _, SockaddrStorage, getsockname};
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::unistd::{Pid, getpgid};

use super::Seat;
use super::nested::Rooms;
use super::peer::{self, Host, Listed, Node, Own, Reach};
use super::report::{Line, What};
use super::thread::{Name, Rights, Thread};
use crate::jail::mutation;
use crate::sys::notify::{self, Answer, Notification};
use crate::sys::{pidfd, reach};

/// How many calls are seen to at once. Each may wait for a server that accepts nobody.
const MAX_AT_ONCE: usize = 256;

/// The longest address that the kernel takes.
const MAX_ADDRESS: u64 = 128;

/// The longest datagram that is carried.
const MAX_DATAGRAM: u64 = 1 << 20;

/// What the usher works with.
#[derive(Debug)]
pub(super) struct Service {
    listener: Arc<OwnedFd>,
    shared: Arc<Shared>,
}

/// What all calls share.
#[derive(Debug)]
struct Shared {
    own: Own,
    /// The name of the session's cgroup, where there are rooms in it.
    house: Option<String>,
    /// The inode of the socket at which they are asked for.
    door: Option<u32>,
    line: Arc<Line>,
    /// The sockets of the host that the command may use.
    open: Vec<Listed>,
    at_work: AtomicUsize,
}

/// A call that names a unix socket.
#[derive(Debug)]
struct Request {
    id: u64,
    thread: Thread,
    number: u32,
    descriptor: i32,
    address: Vec<u8>,
    /// What is sent, for a datagram: where it lies, how long it is, and the flags.
    datagram: Option<(u64, u64, i32)>,
}

/// Where a name leads.
enum Place {
    /// To a file, by a handle of it.
    File(OwnedFd),
    /// To whatever has this name.
    Name,
}

impl Service {
    /// Answers what arrives at a listener.
    pub(super) fn new(listener: OwnedFd, seat: &Seat<'_>) -> io::Result<Self> {
        notify::take_turns(listener.as_fd());
        let line = Arc::new(Line::new(seat.reports.try_clone_to_owned()?));
        let rooms = Rooms::new(seat, Arc::clone(&line))?;
        let door = rooms.map(|rooms| rooms.open(seat.door)).transpose()?;
        let outside = seat.outside.map(|outside| outside.try_clone_to_owned()).transpose()?;
        let host = Host::by(outside);
        let shared = Shared {
            own: Own::default(),
            house: seat.house.map(|(_, name)| name.to_owned()),
            door,
            line: Arc::clone(&line),
            open: seat.open.iter().map(|path| Listed::at(path, &host)).collect(),
            at_work: AtomicUsize::new(0),
        };
        Ok(Self { listener: Arc::new(listener), shared: Arc::new(shared) })
    }

    /// Answers until nobody is left who could ask.
    pub(super) fn run(&self) -> io::Result<()> {
        while let Some(asked) = notify::next(self.listener.as_fd())? {
            self.see_to(&asked);
        }
        Ok(())
    }

    /// Answers at once what names no unix socket or sends a signal, and has a thread see to the rest.
    fn see_to(&self, asked: &Notification) {
        let listener = self.listener.as_fd();
        if asked.call() == libc::SYS_kill {
            notify::answer(listener, asked.id(), signal_group(asked.thread()));
            return;
        }
        let refused = what(asked);
        let request = if refused.is_some() { None } else { Request::read(asked) };
        if refused.is_none() && request.is_none() {
            notify::answer(listener, asked.id(), Answer::Continue);
            return;
        }
        if self.shared.at_work.fetch_add(1, Ordering::Relaxed) >= MAX_AT_ONCE {
            self.shared.at_work.fetch_sub(1, Ordering::Relaxed);
            notify::answer(listener, asked.id(), Answer::Failed(Errno::EAGAIN));
            return;
        }
        let (listener, shared) = (Arc::clone(&self.listener), Arc::clone(&self.shared));
        let (id, number) = (asked.id(), asked.thread());
        let begun = std::thread::Builder::new().spawn(move || {
            let answer = match (request, refused) {
                (Some(request), _) => shared.lead(listener.as_fd(), &request),
                (None, Some(what)) => shared.refuse(number, what),
                (None, None) => Answer::Continue,
            };
            notify::answer(listener.as_fd(), id, answer);
            shared.at_work.fetch_sub(1, Ordering::Relaxed);
        });
        if begun.is_err() {
            self.shared.at_work.fetch_sub(1, Ordering::Relaxed);
            notify::answer(self.listener.as_fd(), id, Answer::Failed(Errno::EAGAIN));
        }
    }
}

/// Whether a thread may signal its own group: not if that is boundary's too, which has no number here.
///
/// It may leave that group meanwhile, but nobody comes into it who has no number for it.
fn signal_group(thread: u32) -> Answer {
    let thread = i32::try_from(thread).map(Pid::from_raw);
    let group = thread.ok().and_then(|thread| getpgid(Some(thread)).ok());
    let is_inside = group.is_some_and(|group| group.as_raw() != 0);
    if is_inside { Answer::Continue } else { Answer::Failed(Errno::EPERM) }
}

impl Request {
    /// Reads the call, if it names a unix socket. What cannot be read the kernel refuses too, and
    /// what names something else is for other walls.
    fn read(asked: &Notification) -> Option<Self> {
        let is_connect = asked.call() == libc::SYS_connect;
        let (place, length) = if is_connect { (1, 2) } else { (4, 5) };
        // The kernel takes an int.
        let length = u64::from(low_half(asked.argument(length)));
        if !(2..=MAX_ADDRESS).contains(&length) {
            return None;
        }
        let thread = Thread::new(asked.thread());
        let length = usize::try_from(length).ok()?;
        let address = thread.read(asked.argument(place), length).ok()?;
        let family = address.first_chunk::<2>().map(|bytes| u16::from_ne_bytes(*bytes))?;
        let is_unix = i32::from(family) == libc::AF_UNIX;
        let flags = low_half(asked.argument(3)).cast_signed();
        let data = (asked.argument(1), asked.argument(2), flags);
        is_unix.then(|| Self {
            id: asked.id(),
            thread,
            number: asked.thread(),
            descriptor: low_half(asked.argument(0)).cast_signed(),
            address,
            datagram: (!is_connect).then_some(data),
        })
    }

    /// What is sent, and the flags, for a datagram. Only we may read it, not the user.
    fn parcel(&self) -> nix::Result<Option<(Vec<u8>, i32)>> {
        let Some((at, length, flags)) = self.datagram else { return Ok(None) };
        if length > MAX_DATAGRAM {
            return Err(Errno::EMSGSIZE);
        }
        let length = usize::try_from(length).map_err(|_wide| Errno::EMSGSIZE)?;
        Ok(Some((self.thread.read(at, length)?, flags)))
    }
}

/// Makes the call on the command's socket.
fn carry_out(
    socket: BorrowedFd<'_>,
    address: &[u8],
    parcel: Option<&(Vec<u8>, i32)>,
) -> nix::Result<i64> {
    match parcel {
        None => reach::connect(socket, address).map(|()| 0),
        Some((data, flags)) => {
            let sent = reach::send_to(socket, data, *flags, address)?;
            i64::try_from(sent).map_err(|_wide| Errno::EMSGSIZE)
        }
    }
}

impl Shared {
    /// Leads a call to where it wants to go, if that is the session's.
    fn lead(&self, listener: BorrowedFd<'_>, request: &Request) -> Answer {
        if !mutation::stands("unix") {
            return Answer::Continue;
        }
        match self.try_to_lead(listener, request) {
            Ok(answer) => answer,
            Err(error) => Answer::Failed(error),
        }
    }

    fn try_to_lead(&self, listener: BorrowedFd<'_>, request: &Request) -> nix::Result<Answer> {
        let handle = pidfd::open_thread_or_process(request.number)?;
        let (view, rights) = (request.thread.view()?, request.thread.rights());
        let rights = rights.map_err(|error| as_errno(&error))?;
        let reach = self.reach_of(request.thread)?;
        // All of that was the caller's if the caller is there still.
        if !notify::is_waiting(listener, request.id) {
            return Err(Errno::EINTR);
        }
        let socket = reach::share_descriptor(handle.as_fd(), request.descriptor)?;
        // Where there are no handles of threads it is the process's, and a thread may have another
        // under this number: what is not looked at must not go on in the kernel.
        if request.thread.socket(request.descriptor)? != fstat(&socket)?.st_ino {
            return Err(Errno::EBADF);
        }
        if !is_unix(socket.as_fd()) {
            // No kernel connects that, and the hooks see to it.
            return Ok(Answer::Continue);
        }
        let name = Name::in_address(&request.address);
        let place = match &name {
            Name::Path(path) => Place::File(borrow(&rights, || view.open(path))?),
            Name::Abstract(_) | Name::Unnamed => Place::Name,
        };
        if !self.may_be_reached(&name, &place, &reach)? {
            self.line.tell(request.thread, handle.as_fd(), What::Named(name.shown()));
            return Err(Errno::EPERM);
        }
        let address = match &place {
            Place::File(file) => address_of(file),
            Place::Name => request.address.clone(),
        };
        let parcel = request.parcel()?;
        // The call may wait for long, and others do so too.
        drop((handle, view));
        borrow(&rights, || carry_out(socket.as_fd(), &address, parcel.as_ref())).map(Answer::Done)
    }

    /// Whose sockets are own to a thread.
    fn reach_of(&self, thread: Thread) -> nix::Result<Reach> {
        let Some(session) = &self.house else { return Ok(Reach::Session) };
        let text = thread.cgroup().map_err(|error| as_errno(&error))?;
        Reach::of(&text, session, self.door).ok_or(Errno::ESRCH)
    }

    /// Whether a name leads to a socket that is in reach, or to one that is open to all.
    fn may_be_reached(&self, name: &Name, place: &Place, reach: &Reach) -> nix::Result<bool> {
        match (name, place) {
            (Name::Path(_), Place::File(file)) => {
                let at = fstat(file)?;
                if peer::is_socket(&at) {
                    let node = Node::of(&at, file);
                    Ok(self.own.has_file(&node, file, reach)? || self.is_open(&at, &node)?)
                } else if is_cover(&at) {
                    Ok(false)
                } else {
                    Err(Errno::ECONNREFUSED)
                }
            }
            (Name::Abstract(name), _) => peer::has_name(name, reach),
            (Name::Path(_) | Name::Unnamed, _) => Ok(true),
        }
    }

    /// Whether the socket at a file is one of those that the user has opened to the command.
    fn is_open(&self, at: &FileStat, node: &Node) -> nix::Result<bool> {
        for listed in &self.open {
            if listed.is(at, node)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Refuses a socket, or an option of one, and tells of it.
    fn refuse(&self, number: u32, what: What) -> Answer {
        let inet = [libc::AF_INET, libc::AF_INET6].map(i32::cast_unsigned);
        let error = match &what {
            What::Made { family, .. } if !inet.contains(family) => Errno::EAFNOSUPPORT,
            What::Made { .. } | What::Set { .. } | What::Named(_) | What::Sent { .. } => {
                Errno::EPERM
            }
        };
        if let Ok(handle) = pidfd::open_thread_or_process(number) {
            self.line.tell(Thread::new(number), handle.as_fd(), what);
        }
        Answer::Failed(error)
    }
}

/// What a call asks for that is refused whoever asks; none if it is one that names a socket.
fn what(asked: &Notification) -> Option<What> {
    /// The bits of the type that are none (`SOCK_CLOEXEC`, `SOCK_NONBLOCK`).
    const FLAGS: u32 = !0xf;
    let [first, second, third] = [0, 1, 2].map(|place| low_half(asked.argument(place)));
    let makes = [libc::SYS_socket, libc::SYS_socketpair].contains(&asked.call());
    if makes {
        return Some(What::Made { family: first, kind: second & !FLAGS, protocol: third });
    }
    let sets = asked.call() == libc::SYS_setsockopt;
    sets.then_some(What::Set { level: second, name: third })
}

/// Does something with somebody's rights.
fn borrow<T>(rights: &Rights, work: impl FnOnce() -> nix::Result<T>) -> nix::Result<T> {
    rights.borrow(work).map_err(|error| as_errno(&error))?
}

/// The error number behind an error.
fn as_errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EPERM, Errno::from_raw)
}

/// The address by which a socket's file is named and nothing else can be: the handle of it.
pub(in crate::jail) fn address_of(file: &OwnedFd) -> Vec<u8> {
    let family = libc::AF_UNIX.to_ne_bytes();
    let path = format!("/proc/self/fd/{}\0", file.as_raw_fd());
    let family = family.first_chunk::<2>().copied().unwrap_or_default();
    [family.as_slice(), path.as_bytes()].concat()
}

/// Whether it is what covers the sockets of host daemons: `/dev/null`.
pub(in crate::jail) fn is_cover(at: &FileStat) -> bool {
    let is_device = at.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits();
    is_device && at.st_rdev == nix::sys::stat::makedev(1, 3)
}

/// Whether a descriptor is a socket of the unix family.
fn is_unix(socket: BorrowedFd<'_>) -> bool {
    getsockname::<SockaddrStorage>(socket.as_raw_fd())
        .is_ok_and(|name| name.family() == Some(AddressFamily::Unix))
}

/// The half of an argument that a call takes as an int.
fn low_half(argument: u64) -> u32 {
    u32::try_from(argument & u64::from(u32::MAX)).unwrap_or_default()
}
