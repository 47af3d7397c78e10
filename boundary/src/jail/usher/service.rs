//! The usher at work: every question of the filter gets one answer.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use boundary_common::steer;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    Shutdown, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, getsockname, getsockopt,
    shutdown, sockopt,
};
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::unistd::{Pid, getpgid};

use super::Seat;
use super::connect::{self, Attempt, Patience};
use super::nested::Rooms;
use super::peer::{self, Caller, Host, Listed, Node, Own, Reach};
use super::report::{Line, What};
use super::request::{Request, low_half};
use super::thread::{Name, Rights, Thread};
use super::waiter::Waiter;
use crate::jail::child::is_unix;
use crate::jail::landjail::address::{Address, is_own, loopback};
use crate::jail::mutation;
use crate::sys::notify::{self, Answer, Notification};
use crate::sys::{errno_of, pidfd};

/// How many calls are seen to at once. Each may wait for a server that accepts nobody.
const MAX_AT_ONCE: usize = 256;

/// How many wait at once for a connection.
const MAX_WAITING: usize = 1024;

/// How many messages of one call are looked at before the next call is seen to.
const FEW: u32 = 8;

/// Where calls are counted.
type Count = fn(&Shared) -> &AtomicUsize;

/// Those that are seen to, and how many may be.
const AT_WORK: (Count, usize) = (|shared| &shared.at_work, MAX_AT_ONCE);

/// Those that wait for a connection, and how many may.
const WAITING: (Count, usize) = (|shared| &shared.waiting, MAX_WAITING);

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
    host: Arc<Host>,
    /// Whether no connection goes on in the kernel.
    stands_alone: bool,
    /// How many calls are seen to, and how many wait for a connection.
    at_work: AtomicUsize,
    waiting: AtomicUsize,
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
            host,
            stands_alone: seat.stands_alone,
            at_work: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
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
        match asked.call() {
            libc::SYS_kill => return tell(signal_group(asked.thread())),
            libc::SYS_prlimit64 => {
                return tell(limit(asked.thread(), low_half(asked.argument(0))));
            }
            _ => {}
        }
        let number = asked.thread();
        if let Some(what) = what(asked) {
            let tell = move |shared: &Shared, _: BorrowedFd<'_>| shared.refuse(number, what);
            if !self.in_background(asked.id(), tell) {
                self.shared.line.miss(1);
            }
            return;
        }
        if asked.call() == libc::SYS_sendmmsg && low_half(asked.argument(2)) > FEW {
            let asked = *asked;
            self.in_background(asked.id(), move |shared, listener| {
                match Request::read(&asked) {
                    Ok(Some(request)) if judges(&request) => shared.lead(listener, &request),
                    Ok(_) => Ok(Answer::Continue),
                    Err(error) => Err(error),
                }
                .unwrap_or_else(Answer::Failed)
            });
            return;
        }
        match Request::read(asked) {
            Ok(Some(request)) if judges(&request) => {
                self.in_background(request.id, move |shared, listener| {
                    shared.lead(listener, &request).unwrap_or_else(Answer::Failed)
                });
            }
            Ok(Some(request)) if self.shared.passes_on(&request) => {
                match self.shared.pass_on(listener, &request) {
                    Ok(Passed::Made) => tell(Answer::Done(0)),
                    Ok(Passed::Waits(socket)) => self.wait(socket, &request),
                    Err(error) => tell(Answer::Failed(error)),
                }
            }
            // What names something else is for other walls.
            Ok(_) => tell(Answer::Continue),
            // The kernel may be able to read what we cannot (memfd_secret(2)).
            Err(error) => tell(Answer::Failed(error)),
        }
    }

    /// Has a thread wait for a connection.
    fn wait(&self, socket: OwnedFd, request: &Request) {
        let call = (request.id, request.thread);
        self.in_thread(request.id, WAITING, move |_, listener| {
            let waiter = Waiter::new(listener, call);
            match connect::wait(&socket, || waiter.goes_on()) {
                Ok(()) => Answer::Done(0),
                Err(Errno::EINTR) => waiter.answer(connect::has_limit(&socket)),
                Err(error) => Answer::Failed(error),
            }
        });
    }

    /// Has a thread find the answer to a call. False where it has its answer: there are too many.
    fn in_background(
        &self,
        id: u64,
        answer: impl FnOnce(&Shared, BorrowedFd<'_>) -> Answer + Send + 'static,
    ) -> bool {
        self.in_thread(id, AT_WORK, answer)
    }

    /// Has a thread find the answer to a call, of which there are as many as that at the most.
    fn in_thread(
        &self,
        id: u64,
        (count, most): (Count, usize),
        answer: impl FnOnce(&Shared, BorrowedFd<'_>) -> Answer + Send + 'static,
    ) -> bool {
        let (listener, shared) = (Arc::clone(&self.listener), Arc::clone(&self.shared));
        let is_full = count(&shared).fetch_add(1, Ordering::Relaxed) >= most;
        let call = Call { id, listener, shared, count, answer: Answer::Failed(Errno::EAGAIN) };
        // Where there is no thread to be had, that is the answer too.
        !is_full && std::thread::Builder::new().spawn(move || call.settle(answer)).is_ok()
    }
}

/// A call that gets its answer when this goes, however that comes about.
struct Call {
    id: u64,
    listener: Arc<OwnedFd>,
    shared: Arc<Shared>,
    /// Where it is counted.
    count: Count,
    answer: Answer,
}

impl Call {
    /// Gives it this answer.
    fn settle(mut self, answer: impl FnOnce(&Shared, BorrowedFd<'_>) -> Answer) {
        self.answer = answer(&self.shared, self.listener.as_fd());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        notify::answer(self.listener.as_fd(), self.id, self.answer);
        (self.count)(&self.shared).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a call names a unix socket, and is judged by that.
fn judges(request: &Request) -> bool {
    request.is_judged && mutation::stands("unix")
}

/// What came of a connection that is passed on as it is.
#[derive(Debug)]
enum Passed {
    /// It is made.
    Made,
    /// It is not, and whoever makes it waits.
    Waits(OwnedFd),
}

/// Tries a call until there is room for what it sends, or for who connects, as long as somebody waits for
/// it: what nobody waits for any more is not to be done.
fn repeated<T>(
    waiter: &Waiter<'_>,
    mut patience: Option<Patience>,
    call: impl Fn() -> nix::Result<T>,
) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EAGAIN) if patience.as_mut().is_some_and(Patience::lasts) => {}
            done => return done,
        }
        if !waiter.goes_on() {
            return Err(Errno::EINTR);
        }
    }
}

/// Whether a thread may set the limits of a process: of its own alone, by that one's number. boundary's have
/// the command's ids, and would record nothing any more without descriptors; and who has another number now,
/// be it a thread beside it, or that nobody has it, says nothing of who has it when the kernel looks.
fn limit(thread: u32, process: u32) -> Answer {
    let is_own = pidfd::process_of(thread) == Ok(process);
    if is_own { Answer::Continue } else { Answer::Failed(Errno::EPERM) }
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
    /// Whether a call that is not judged is made here all the same.
    fn passes_on(&self, request: &Request) -> bool {
        self.stands_alone && request.is_connect() && mutation::stands("unix")
    }

    /// Makes a connection to what is no unix socket, by the address that was read.
    fn pass_on(&self, listener: BorrowedFd<'_>, request: &Request) -> nix::Result<Passed> {
        let (_handle, socket) = request.share()?;
        // All of that was the caller's if the caller is there still.
        if !notify::is_waiting(listener, request.id) {
            return Err(Errno::EINTR);
        }
        if self.leads_to_nobody(request, &socket) {
            return Err(Errno::ECONNREFUSED);
        }
        match connect::attempt(&socket, &request.address)? {
            Attempt::Made => Ok(Passed::Made),
            Attempt::UnderWay => Err(Errno::EINPROGRESS),
            Attempt::Waits => Ok(Passed::Waits(socket)),
        }
    }

    /// Whether nobody listens where a connection over loopback would go: the proxy, which takes what no
    /// server inside does, would have it made, and programs wait for their servers by trying. To questions
    /// there is somebody who answers.
    fn leads_to_nobody(&self, request: &Request, socket: &OwnedFd) -> bool {
        let Ok(Address::Inet(target)) = Address::read(&request.address) else { return false };
        let is_stream = || getsockopt(socket, sockopt::SockType) == Ok(SockType::Stream);
        let is_to_server = is_own(target) && target.port() != steer::DNS;
        // A socket may be connected to itself.
        let has_target = || {
            let own = getsockname::<SockaddrStorage>(socket.as_raw_fd());
            own.is_ok_and(|own| port_of(&own) == Some(target.port()))
        };
        is_to_server && is_stream() && !has_target() && self.host.has_nobody_at(loopback(target))
    }

    /// Leads a call to where it wants to go, if that is the session's.
    fn lead(&self, listener: BorrowedFd<'_>, request: &Request) -> nix::Result<Answer> {
        let (view, rights) = (request.thread.view()?, request.thread.rights());
        let rights = rights.map_err(|error| errno_of(&error, Errno::EPERM))?;
        let reach = self.reach_of(request.thread)?;
        let (handle, socket) = request.share()?;
        // All of that was the caller's if the caller is there still.
        if !notify::is_waiting(listener, request.id) {
            return Err(Errno::EINTR);
        }
        if !is_unix(socket.as_fd()) {
            // No socket of another family takes such an address. Where there are hooks they see to what
            // takes its place.
            let is_alone = self.stands_alone;
            return if is_alone { Err(Errno::EAFNOSUPPORT) } else { Ok(Answer::Continue) };
        }
        if !request.suits_unix() {
            return Err(Errno::EINVAL);
        }
        let name = Name::in_address(&request.address);
        let place = match &name {
            Name::Path(path) => Place::File(borrow(&rights, || view.open(path))?),
            Name::Abstract(_) | Name::Unnamed => Place::Name,
        };
        let is_waiting = || notify::is_waiting(listener, request.id);
        let caller = Caller { from: &socket, rights: &rights, is_there: &is_waiting };
        if !self.may_be_reached(&name, &place, (&reach, &caller))? {
            self.line.tell(request.thread, Some(handle.as_fd()), What::Named(name.shown()));
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
        // A name without a file may have become somebody else's at any time.
        let is_there = || match &place {
            Place::File(_) => Ok(()),
            Place::Name if self.may_be_reached(&name, &place, (&reach, &caller))? => Ok(()),
            Place::Name => Err(Errno::ECONNREFUSED),
        };
        let call = || {
            is_there()?;
            let done = borrow(&rights, call)?;
            if parcel.is_none() {
                is_there().inspect_err(|_| hang_up(&socket))?;
            }
            Ok(done)
        };
        let patience = request.patience(&socket)?;
        let waiter = Waiter::new(listener, (request.id, request.thread));
        match repeated(&waiter, patience, call) {
            Ok(sent) => request.returns(listener, sent).map(Answer::Done),
            Err(Errno::EINTR) => Ok(waiter.answer(connect::has_limit(&socket))),
            Err(error) => Err(error),
        }
    }

    /// Whose sockets are own to a thread.
    fn reach_of(&self, thread: Thread) -> nix::Result<Reach> {
        let Some(session) = &self.house else { return Ok(Reach::Network) };
        let text = thread.cgroup().map_err(|error| errno_of(&error, Errno::EPERM))?;
        Reach::of(&text, session, self.door).ok_or(Errno::ESRCH)
    }

    /// Whether a name leads to a socket that is in reach, or to one that is open to all.
    fn may_be_reached(
        &self,
        name: &Name,
        place: &Place,
        (reach, caller): (&Reach, &Caller<'_>),
    ) -> nix::Result<bool> {
        match (name, place) {
            (Name::Path(_), Place::File(file)) => {
                let at = fstat(file)?;
                if peer::is_socket(&at) {
                    let node = Node::of(&at, file);
                    Ok(self.is_open(&at, &node)?
                        || self.own.has_file((&node, file), reach, caller)?)
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
        let handle = pidfd::open_thread_or_process(number).ok();
        self.line.tell(Thread::new(number), handle.as_ref().map(AsFd::as_fd), what);
        Answer::Failed(error)
    }
}

/// The port of an address of the internet.
fn port_of(address: &SockaddrStorage) -> Option<u16> {
    let v4 = address.as_sockaddr_in().map(SockaddrIn::port);
    v4.or_else(|| address.as_sockaddr_in6().map(SockaddrIn6::port))
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

/// Ends a connection that is not to be, if it is still there.
fn hang_up(socket: &OwnedFd) {
    shutdown(socket.as_raw_fd(), Shutdown::Both).unwrap_or_default();
}

/// Does something with somebody's rights.
fn borrow<T>(rights: &Rights, work: impl FnOnce() -> nix::Result<T>) -> nix::Result<T> {
    rights.borrow(work).map_err(|error| errno_of(&error, Errno::EPERM))?
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
