//! The usher at work: every call about a socket that waits for it gets one answer.
//!
//! *Never*: lets a call go on that names an address which the kernel would follow. What goes on
//! reads no address, or is done on a socket to which an address means nothing.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use boundary_common::flow::Endpoint;
use boundary_common::steer::{self, Decision, Hook, Listener, Socket, Why, steer};
use nix::errno::Errno;
use nix::libc;

use super::address::{canonical, is_own, loopback, written};
use super::datagrams::Datagram;
use super::flows::Teller;
use super::listeners::Listeners;
use super::post::Post;
use super::rooms::{self, Rooms};
use super::sockets::Sockets;
use super::{Doors, made, messages, names, options, signals, streams};
use crate::audit::Process;
use crate::jail::usher;
use crate::jail::usher::peer::{Host, Known, Listed};
use crate::jail::usher::report::{Line, What};
use crate::jail::usher::thread::Thread;
use crate::jail::usher::waiter::Waiter;
use crate::sys::errno_of;
use crate::sys::notify::{self, Answer, Notification};

/// How many calls wait in threads of their own at once.
const MAX_AT_ONCE: usize = 256;

/// A call that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) id: u64,
    pub(super) thread: Thread,
    pub(super) call: i64,
    pub(super) arguments: [u64; 6],
}

impl Asked {
    fn new(asked: &Notification) -> Self {
        let arguments = [0, 1, 2, 3, 4, 5].map(|place| asked.argument(place));
        let thread = Thread::new(asked.thread());
        Self { id: asked.id(), thread, call: asked.call(), arguments }
    }

    /// An argument that the call takes as an int.
    pub(super) fn number(&self, place: usize) -> i32 {
        let argument = self.arguments.get(place).copied().unwrap_or_default();
        u32::try_from(argument & u64::from(u32::MAX)).unwrap_or_default().cast_signed()
    }

    /// The inode of the socket that the call is about.
    pub(super) fn socket(&self) -> nix::Result<u64> {
        self.thread.socket(self.number(0))
    }

    /// Writes an address where the program wants one, and how long it is, as the kernel does.
    pub(super) fn write_address(
        &self,
        address: SocketAddr,
        (at, length_at): (u64, u64),
    ) -> nix::Result<()> {
        let bytes = written(address);
        let room = self.thread.read(length_at, 4)?;
        let room = room.first_chunk().map_or(0, |room| i32::from_ne_bytes(*room));
        let room = usize::try_from(room).map_err(|_negative| Errno::EINVAL)?;
        self.thread.write(at, bytes.get(..room).unwrap_or(&bytes))?;
        let length = u32::try_from(bytes.len()).unwrap_or_default();
        self.thread.write(length_at, &length.to_ne_bytes())
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// It is answered like this.
    Answer(Answer),
    /// It goes on in the kernel.
    Continue,
    /// It was answered already, or will be, or is gone.
    Given,
}

/// What all calls share.
#[derive(Debug)]
pub(super) struct Shared {
    listener: OwnedFd,
    sockets: Mutex<Sockets>,
    listeners: Mutex<Listeners>,
    pub(super) teller: Arc<Teller>,
    line: Line,
    pub(super) doors: Doors,
    /// The sockets of the host that the command may use.
    pub(super) open: Vec<Listed>,
    /// Files of which is known that the session serves them.
    pub(super) served: Known,
    pub(super) post: Post,
    /// Those of boundary inside boundary.
    pub(super) rooms: Rooms,
    /// Whether what is refused is not told: the canary's attempts are not the command's.
    is_silent: AtomicBool,
    at_work: AtomicUsize,
}

/// What the usher serves with.
pub(super) struct Parts {
    pub(super) listener: OwnedFd,
    pub(super) flows: OwnedFd,
    pub(super) reports: OwnedFd,
    pub(super) doors: Doors,
    pub(super) open: Vec<PathBuf>,
    /// The door to the rooms, which is the first that is open.
    pub(super) door: Option<UnixListener>,
}

/// A call that gets its answer when this goes, however that comes about.
struct Call {
    shared: Arc<Shared>,
    asked: Asked,
    reply: nix::Result<Reply>,
}

impl Call {
    /// Gives it this answer.
    fn settle(mut self, work: impl FnOnce(&Arc<Shared>) -> nix::Result<Reply>) {
        self.reply = work(&self.shared);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.shared.reply(&self.asked, self.reply);
        self.shared.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// Serves with these, and has a thread bring what arrives for datagram sockets.
    pub(super) fn new(parts: Parts) -> io::Result<Arc<Self>> {
        notify::take_turns(parts.listener.as_fd());
        let host = Host::by(None);
        let shared = Arc::new(Self {
            listener: parts.listener,
            sockets: Mutex::default(),
            listeners: Mutex::new(Listeners::open()?),
            teller: Arc::new(Teller::new(parts.flows)),
            line: Line::new(parts.reports),
            doors: parts.doors,
            open: parts.open.iter().map(|path| Listed::at(path, &host)).collect(),
            served: Known::default(),
            post: Post::new()?,
            rooms: Rooms::new()?,
            is_silent: AtomicBool::new(true),
            at_work: AtomicUsize::new(0),
        });
        let post = Arc::clone(&shared);
        std::thread::Builder::new().spawn(move || post.post.carry(&post))?;
        if let Some(door) = parts.door {
            rooms::open(&shared, door)?;
        }
        Ok(shared)
    }

    /// From now on what is refused is told.
    pub(super) fn speak(&self) {
        self.is_silent.store(false, Ordering::Relaxed);
    }

    /// Where the calls wait.
    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The sockets that were made.
    pub(super) fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to every call, until nobody is left who could make one.
    pub(super) fn serve(self: &Arc<Self>) -> io::Result<()> {
        while let Some(asked) = notify::next(self.listener())? {
            let asked = Asked::new(&asked);
            self.reply(&asked, self.see_to(&asked));
        }
        Ok(())
    }

    /// Does what a call wants, or finds out why not.
    fn see_to(self: &Arc<Self>, asked: &Asked) -> nix::Result<Reply> {
        match asked.call {
            libc::SYS_socket => made::socket(self, asked),
            libc::SYS_socketpair => made::pair(self, asked),
            libc::SYS_connect => streams::connect(self, asked),
            libc::SYS_bind => streams::bind(self, asked),
            libc::SYS_listen => streams::listen(self, asked),
            libc::SYS_getsockname => names::own(self, asked),
            libc::SYS_getpeername => names::peer(self, asked),
            libc::SYS_sendto => messages::send_to(self, asked),
            libc::SYS_sendmsg => messages::send_message(self, asked),
            libc::SYS_sendmmsg => messages::send_messages(self, asked),
            libc::SYS_recvfrom | libc::SYS_recvmsg | libc::SYS_recvmmsg => {
                messages::receive(self, asked)
            }
            libc::SYS_setsockopt => options::set(self, asked),
            libc::SYS_getsockopt => options::read(self, asked),
            libc::SYS_kill
            | libc::SYS_tkill
            | libc::SYS_tgkill
            | libc::SYS_rt_sigqueueinfo
            | libc::SYS_rt_tgsigqueueinfo
            | libc::SYS_pidfd_send_signal => signals::send(self, asked),
            libc::SYS_fcntl | libc::SYS_ioctl => signals::arrange(asked),
            // The filter asks about nothing else.
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Answers a call. False if it is gone.
    pub(super) fn reply(&self, asked: &Asked, reply: nix::Result<Reply>) -> bool {
        let answer = match reply {
            Ok(Reply::Given) => return true,
            Ok(Reply::Continue) => Answer::Continue,
            Ok(Reply::Answer(answer)) => answer,
            Err(error) => Answer::Failed(error),
        };
        notify::answer(self.listener(), asked.id, answer)
    }

    /// Whether a call still waits: its thread is then who it was when it asked.
    pub(super) fn is_waiting(&self, asked: &Asked) -> bool {
        notify::is_waiting(self.listener(), asked.id)
    }

    /// Whoever waits in a call.
    pub(super) fn waiter(&self, asked: &Asked) -> Waiter<'_> {
        Waiter::new(self.listener(), (asked.id, asked.thread))
    }

    /// Sees to a call in a thread of its own.
    pub(super) fn in_background(
        self: &Arc<Self>,
        asked: &Asked,
        work: impl FnOnce(&Arc<Self>) -> nix::Result<Reply> + Send + 'static,
    ) -> nix::Result<Reply> {
        if self.at_work.fetch_add(1, Ordering::Relaxed) >= MAX_AT_ONCE {
            self.at_work.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::EAGAIN);
        }
        let call = Call { shared: Arc::clone(self), asked: *asked, reply: Err(Errno::EAGAIN) };
        let thread = std::thread::Builder::new().stack_size(256 * 1024);
        // Where there is no room for a thread the call goes with it, and has its answer.
        drop(thread.spawn(move || call.settle(work)));
        Ok(Reply::Given)
    }

    /// The datagram socket that a call is about, if it is one.
    pub(super) fn datagram(&self, asked: &Asked) -> nix::Result<Option<Arc<Datagram>>> {
        // Most commands have none, or few: what is sent on other sockets is not to wait for us.
        if !self.sockets().has_datagrams() {
            return Ok(None);
        }
        let found = match asked.socket() {
            // The kernel says the same of it.
            Err(_) => return Ok(None),
            Ok(inode) => self.sockets().datagram(inode),
        };
        if found.is_some() && !self.is_waiting(asked) {
            return Err(Errno::EINTR);
        }
        Ok(found)
    }

    /// Who calls.
    pub(super) fn caller(&self, asked: &Asked) -> nix::Result<Process> {
        let failed = |error| errno_of(&error, Errno::EIO);
        let mut process = asked.thread.process().map_err(failed)?;
        process.room = self.room(asked)?;
        if self.is_waiting(asked) { Ok(process) } else { Err(Errno::EINTR) }
    }

    /// Has the proxy judge by a policy what comes from a room.
    pub(super) fn enter(&self, entry: usher::Entry) -> io::Result<bool> {
        self.line.enter(entry)
    }

    /// Has the proxy grant nothing any more to what comes from a room.
    pub(super) fn leave(&self, room: u64) -> io::Result<bool> {
        self.line.leave(room)
    }

    /// Tells what was refused.
    pub(super) fn tell(&self, process: Process, what: What) {
        if !self.is_silent.load(Ordering::Relaxed) {
            self.line.note(process, what);
        }
    }

    /// Tells how many refusals could not be told, when nobody makes any more.
    pub(super) fn confess(&self) {
        self.line.confess();
    }

    /// The room that whoever calls is in, 0 if in none.
    pub(super) fn room(&self, asked: &Asked) -> nix::Result<u64> {
        let room = self.rooms.of(asked.thread.number());
        room.map_err(|error| errno_of(&error, Errno::EIO))
    }

    /// Whether a socket is the session's, and no stranger's in a room: what a process around it serves
    /// there is served by a wider policy.
    pub(super) fn is_own(&self, inode: u64, room: u64) -> bool {
        let sockets = self.sockets();
        let made_in = sockets.at(inode).map(|_| sockets.room(inode));
        drop(sockets);
        made_in.is_some_and(|made_in| room == 0 || self.rooms.is_inside(made_in, room))
    }

    /// Decides what becomes of a stream's target, by who listens there, for whoever is in a room.
    pub(super) fn steer_stream(&self, target: SocketAddr, room: u64) -> nix::Result<Decision> {
        let target = loopback(target);
        let there = if !is_own(target) {
            Listener::Nobody
        } else if self.doors.tcp.contains(&target) {
            Listener::Door
        } else {
            let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            match listeners.at(target)? {
                None => Listener::Nobody,
                Some(inode) if self.is_own(inode, room) => Listener::Session,
                Some(_) => Listener::Stranger,
            }
        };
        let socket = Socket { kind: steer::STREAM, protocol: libc::IPPROTO_TCP.cast_unsigned() };
        Ok(steer(Hook::Connect, socket, &endpoint(target), there))
    }

    /// Decides what becomes of a datagram's target.
    pub(super) fn steer_datagram(
        &self,
        hook: Hook,
        (from, target): (&Datagram, SocketAddr),
    ) -> Decision {
        let room = from.process().room;
        let is_open =
            |other: Arc<Datagram>| room == 0 || self.rooms.is_inside(other.process().room, room);
        let target = loopback(target);
        let other = self.sockets().datagram_for(target, from);
        let there = if other.is_some_and(is_open) {
            Listener::Session
        } else if target == self.doors.dns {
            Listener::Door
        } else {
            Listener::Nobody
        };
        let socket = Socket { kind: steer::DATAGRAM, protocol: libc::IPPROTO_UDP.cast_unsigned() };
        steer(hook, socket, &endpoint(target), there)
    }

    /// Sends a datagram of the command; how much of it was sent.
    pub(super) fn send(
        &self,
        asked: &Asked,
        (socket, target): (&Arc<Datagram>, SocketAddr),
        data: &[u8],
    ) -> nix::Result<usize> {
        let process = self.caller(asked)?;
        socket.note_user(process);
        self.carry(socket, target, data)?;
        Ok(data.len())
    }

    /// Carries a datagram to where it may go.
    pub(super) fn carry(
        &self,
        socket: &Arc<Datagram>,
        target: SocketAddr,
        data: &[u8],
    ) -> nix::Result<()> {
        match self.steer_datagram(Hook::Sendmsg, (socket, target)) {
            Decision::Pass => {
                self.give_address(socket);
                let other = self.sockets().datagram_for(target, socket);
                let source = socket.source_towards(target);
                other.map_or(Err(Errno::ECONNREFUSED), |other| other.deliver(data, source))
            }
            Decision::Turn(_) => {
                self.give_address(socket);
                let question = (data, canonical(target));
                if let Some(line) = socket.ask(question, self.doors.dns, &self.teller)? {
                    self.post.watch_line(socket, &line)?;
                }
                Ok(())
            }
            Decision::Refuse(why) => {
                self.refuse_datagram(socket, target, why);
                Err(Errno::EPERM)
            }
        }
    }

    /// Tells of a datagram that was refused.
    pub(super) fn refuse_datagram(&self, socket: &Datagram, target: SocketAddr, why: Why) {
        let what = What::Sent { target: canonical(target), why: why as u16 };
        self.tell(socket.process(), what);
    }

    /// Gives a socket an address that no other has, if it has none.
    pub(super) fn give_address(&self, socket: &Datagram) {
        /// The ports that the kernel chooses from, by its default.
        const CHOSEN: std::ops::Range<u16> = 32_768..60_999;
        if socket.is_bound() {
            return;
        }
        let sockets = self.sockets();
        let is_free = |port: &u16| !sockets.datagrams().any(|other| other.port() == Some(*port));
        let port = CHOSEN.into_iter().find(is_free).unwrap_or(CHOSEN.start);
        socket.bind(SocketAddr::new(socket.local().ip(), port));
    }
}

/// An address as the decision knows it.
fn endpoint(address: SocketAddr) -> Endpoint {
    match canonical(address) {
        SocketAddr::V4(v4) => Endpoint::v4(u32::from_ne_bytes(v4.ip().octets()), v4.port()),
        SocketAddr::V6(v6) => Endpoint::v6(zerocopy::transmute!(v6.ip().octets()), v6.port()),
    }
}
