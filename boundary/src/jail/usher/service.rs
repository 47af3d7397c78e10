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
use super::connect::{self, Attempt};
use super::nested::Rooms;
use super::peer::{self, Host, Listed, Node, Own, Reach};
use super::report::{Line, What};
use super::request::{Parcel, Patience, Request, low_half};
use super::thread::{Name, Rights, Thread};
use crate::jail::mutation;
use crate::sys::notify::{self, Answer, Notification};
use crate::sys::pidfd;

/// How many calls are seen to at once. Each may wait for a server that accepts nobody.
const MAX_AT_ONCE: usize = 256;

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
    /// Whether no call that has an address goes on in the kernel.
    stands_alone: bool,
    at_work: AtomicUsize,
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
            stands_alone: seat.stands_alone,
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
        let tell = |answer| {
            // Who is gone has no need of an answer.
            let _is_there = notify::answer(listener, asked.id(), answer);
        };
        if asked.call() == libc::SYS_kill {
            return tell(signal_group(asked.thread()));
        }
        let number = asked.thread();
        if let Some(what) = what(asked) {
            return self.in_background(asked.id(), move |shared, _| shared.refuse(number, what));
        }
        let request = match Request::read(asked) {
            Ok(Some(request)) if mutation::stands("unix") => request,
            Ok(_) => return tell(Answer::Continue),
            // The kernel may be able to read what we cannot (memfd_secret(2)).
            Err(error) => return tell(Answer::Failed(error)),
        };
        if request.is_judged {
            self.in_background(request.id, move |shared, listener| {
                shared.lead(listener, &request).unwrap_or_else(Answer::Failed)
            });
        } else if self.shared.stands_alone {
            match pass_on(listener, &request) {
                Ok(Passed::Answered(answer)) => tell(answer),
                Ok(Passed::Waits(waiting)) => self.in_background(request.id, move |_, listener| {
                    waiting.wait(listener, &request).unwrap_or_else(Answer::Failed)
                }),
                Err(error) => tell(Answer::Failed(error)),
            }
        } else {
            // What names something else is for other walls.
            tell(Answer::Continue);
        }
    }

    /// Has a thread find the answer to a call.
    fn in_background(
        &self,
        id: u64,
        answer: impl FnOnce(&Shared, BorrowedFd<'_>) -> Answer + Send + 'static,
    ) {
        let (listener, shared) = (Arc::clone(&self.listener), Arc::clone(&self.shared));
        let is_full = shared.at_work.fetch_add(1, Ordering::Relaxed) >= MAX_AT_ONCE;
        let begin = || {
            std::thread::Builder::new().spawn(move || {
                notify::answer(listener.as_fd(), id, answer(&shared, listener.as_fd()));
                shared.at_work.fetch_sub(1, Ordering::Relaxed);
            })
        };
        if is_full || begin().is_err() {
            self.shared.at_work.fetch_sub(1, Ordering::Relaxed);
            notify::answer(self.listener.as_fd(), id, Answer::Failed(Errno::EAGAIN));
        }
    }
}

/// What came of a call that is passed on as it is.
#[derive(Debug)]
enum Passed {
    /// It is done.
    Answered(Answer),
    /// It waits, and whoever makes it waits too.
    Waits(Waiting),
}

/// Makes a call that names no unix socket, with the address that was read.
fn pass_on(listener: BorrowedFd<'_>, request: &Request) -> nix::Result<Passed> {
    let handle = pidfd::open_thread_or_process(request.number)?;
    let socket = request.socket(handle.as_fd())?;
    pass(listener, request, (handle, socket))
}

/// The same, for who has handles of the caller and of the socket.
fn pass(
    listener: BorrowedFd<'_>,
    request: &Request,
    (handle, socket): (OwnedFd, OwnedFd),
) -> nix::Result<Passed> {
    let parcel = request.parcel(handle.as_fd(), &socket)?;
    // All of that was the caller's if the caller is there still.
    if !notify::is_waiting(listener, request.id) {
        return Err(Errno::EINTR);
    }
    let done = match &parcel {
        None => connect::attempt(&socket, &request.address).map(|attempt| match attempt {
            Attempt::Made => Ok(0),
            Attempt::UnderWay => Err(Errno::EINPROGRESS),
            Attempt::Waits => Err(Errno::EAGAIN),
        })?,
        Some(parcel) => parcel.send(&socket, &request.address),
    };
    let patience = if done == Err(Errno::EAGAIN) { request.patience(&socket)? } else { None };
    match patience {
        Some(patience) => Ok(Passed::Waits(Waiting { socket, parcel, patience })),
        None => Ok(Passed::Answered(Answer::Done(request.returns(done?)?))),
    }
}

/// A call that is passed on and waits.
#[derive(Debug)]
struct Waiting {
    socket: OwnedFd,
    parcel: Option<Parcel>,
    patience: Patience,
}

impl Waiting {
    /// Waits until it is done.
    fn wait(self, listener: BorrowedFd<'_>, request: &Request) -> nix::Result<Answer> {
        let Self { socket, parcel, patience } = self;
        let Some(parcel) = parcel else {
            let is_awaited = || notify::is_waiting(listener, request.id);
            return connect::wait(&socket, &request.address, is_awaited).map(|()| Answer::Done(0));
        };
        let call = || parcel.send(&socket, &request.address);
        let sent = repeated((listener, request), Some(patience), call)?;
        request.returns(sent).map(Answer::Done)
    }
}

/// Tries a call until there is room for what it sends, or for who connects, as long as somebody waits for
/// it: what nobody waits for any more is not to be done.
fn repeated<T>(
    (listener, request): (BorrowedFd<'_>, &Request),
    mut patience: Option<Patience>,
    call: impl Fn() -> nix::Result<T>,
) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EAGAIN) if patience.as_mut().is_some_and(Patience::lasts) => {}
            done => return done,
        }
        if !notify::is_waiting(listener, request.id) {
            return Err(Errno::EINTR);
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

impl Shared {
    /// Leads a call to where it wants to go, if that is the session's.
    fn lead(&self, listener: BorrowedFd<'_>, request: &Request) -> nix::Result<Answer> {
        let handle = pidfd::open_thread_or_process(request.number)?;
        let (view, rights) = (request.thread.view()?, request.thread.rights());
        let rights = rights.map_err(|error| as_errno(&error))?;
        let reach = self.reach_of(request.thread)?;
        // All of that was the caller's if the caller is there still.
        if !notify::is_waiting(listener, request.id) {
            return Err(Errno::EINTR);
        }
        let socket = request.socket(handle.as_fd())?;
        if !is_unix(socket.as_fd()) {
            if !self.stands_alone {
                // The hooks see to it.
                return Ok(Answer::Continue);
            }
            return match pass(listener, request, (handle, socket))? {
                Passed::Answered(answer) => Ok(answer),
                Passed::Waits(waiting) => waiting.wait(listener, request),
            };
        }
        if !request.suits_unix() {
            return Err(Errno::EINVAL);
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
        let parcel = request.parcel(handle.as_fd(), &socket)?;
        // The call may wait for long, and others do so too.
        drop((handle, view));
        let call = || match &parcel {
            None => connect::attempt(&socket, &address).map(|_made| 0),
            Some(parcel) => parcel.send(&socket, &address),
        };
        let patience = request.patience(&socket)?;
        let sent = repeated((listener, request), patience, || borrow(&rights, call))?;
        request.returns(sent).map(Answer::Done)
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
