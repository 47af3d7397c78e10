//! System calls that wait for somebody else's answer: the far side of a seccomp filter that asks.
//!
//! *Standing*: `jail::usher` answers what `jail::filter` asks. *Never*: decides what to answer.

#![expect(unsafe_code, reason = "system calls that neither std nor nix wraps")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::ioctl::ioctl_num_type as Code;
use nix::{request_code_readwrite, request_code_write};

/// A call that waits.
#[derive(Clone, Copy)]
pub struct Notification(libc::seccomp_notif);

impl Notification {
    /// What the answer is addressed by.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The thread that waits, in the reader's pid namespace; zero if it is not to be seen there.
    pub fn thread(&self) -> u32 {
        self.0.pid
    }

    /// The number of the call.
    pub fn call(&self) -> i64 {
        i64::from(self.0.data.nr)
    }

    /// One of its six arguments.
    pub fn argument(&self, place: usize) -> u64 {
        self.0.data.args.get(place).copied().unwrap_or_default()
    }
}

impl std::fmt::Debug for Notification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notification").field("call", &self.call()).finish_non_exhaustive()
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It goes on, as if nobody had asked.
    Continue,
    /// It has done what it should, and returns this.
    Done(i64),
    /// It fails.
    Failed(Errno),
    /// It is interrupted by a signal that is there for its thread, and made again where the signal has no
    /// handler, or one that says so (`SA_RESTART`). Where there is no signal the program sees an error that
    /// it does not know.
    Again,
}

/// Installs a filter and returns where its questions arrive. What waits there can be killed, and
/// since Linux 5.19 is not woken by anything less once its question was read.
pub fn install(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let listens = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let fd = match set(program, listens | WAIT_KILLABLE) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => set(program, listens),
        fd => fd,
    }?;
    // SAFETY: the descriptor is new, and nobody else has seen it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` of linux/seccomp.h.
const WAIT_KILLABLE: libc::c_ulong = 1 << 5;

/// Whether nothing but a signal that kills wakes what waits for an answer (Linux 5.19).
pub fn waits_killable() -> bool {
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | WAIT_KILLABLE;
    let none: *const libc::sock_fprog = std::ptr::null();
    // SAFETY: there is no filter, so that the call can only fail: a flag that is not known is refused
    // before the filter is read.
    let asked = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, none) };
    Errno::result(asked) == Err(Errno::EFAULT)
}

/// Installs a filter that asks nobody.
pub fn install_silent(program: &[libc::sock_filter]) -> io::Result<()> {
    set(program, 0).map(drop)
}

/// Sets a filter, and returns what the kernel does.
fn set(program: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<i32> {
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the program outlives the call, and the kernel copies it without writing to it.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    i32::try_from(done).ok().filter(|done| *done >= 0).ok_or_else(io::Error::last_os_error)
}

/// Has whoever asks and whoever answers take turns on one processor (Linux 6.6), which is most of
/// what a question costs. Where the kernel cannot, it costs more.
pub fn take_turns(listener: BorrowedFd<'_>) {
    /// `SECCOMP_IOCTL_NOTIF_SET_FLAGS` and `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` of
    /// linux/seccomp.h.
    const SET_FLAGS: Code = request_code_write!(b'!', 4, size_of::<u64>());
    const SYNC_WAKE_UP: u64 = 1;
    // SAFETY: the call takes a plain number.
    unsafe { libc::ioctl(listener.as_raw_fd(), SET_FLAGS, SYNC_WAKE_UP) };
}

/// Waits for the next call. None when there will be none, because nobody is left under the filter
/// (before Linux 6.11 that is not told, and the wait is one without an end).
pub fn next(listener: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    loop {
        // To wait in the call itself is one call less for every question.
        if let Some(asked) = receive(listener)? {
            return Ok(Some(asked));
        }
        if !is_asked(listener)? {
            return Ok(None);
        }
    }
}

/// Waits for a call. False when there will be none.
fn is_asked(listener: BorrowedFd<'_>) -> io::Result<bool> {
    loop {
        let mut waiting = [PollFd::new(listener, PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let [ready] = waiting.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        if !ready.is_empty() {
            return Ok(ready.contains(PollFlags::POLLIN));
        }
    }
}

/// The next call that waits. None if it is gone again, or nobody is left.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    /// `SECCOMP_IOCTL_NOTIF_RECV` of linux/seccomp.h.
    const RECEIVE: Code = request_code_readwrite!(b'!', 0, size_of::<libc::seccomp_notif>());
    // SAFETY: every field may be zero, as the kernel wants them.
    let mut notification: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is as large as the request says, and ours to be written to.
    let received = unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut notification) };
    match Errno::result(received) {
        Ok(_) => Ok(Some(Notification(notification))),
        Err(Errno::ENOENT | Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a call still waits: its thread is then who it was when it asked.
pub fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    /// `SECCOMP_IOCTL_NOTIF_ID_VALID` of linux/seccomp.h.
    const IS_VALID: Code = request_code_write!(b'!', 2, size_of::<u64>());
    // SAFETY: the call reads one number, which outlives it.
    unsafe { libc::ioctl(listener.as_raw_fd(), IS_VALID, &raw const id) == 0 }
}

/// Answers a call. False if it is gone, and has no need of an answer.
pub fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> bool {
    /// `SECCOMP_IOCTL_NOTIF_SEND` of linux/seccomp.h.
    const SEND: Code = request_code_readwrite!(b'!', 1, size_of::<libc::seccomp_notif_resp>());
    /// `SECCOMP_USER_NOTIF_FLAG_CONTINUE` of linux/seccomp.h.
    const CONTINUE: u32 = 1;
    /// `ERESTARTSYS` of the kernel's linux/errno.h.
    const RESTART: i32 = 512;
    let mut response = libc::seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
    match answer {
        Answer::Continue => response.flags = CONTINUE,
        Answer::Done(value) => response.val = value,
        Answer::Failed(error) => response.error = -(error as i32),
        Answer::Again => response.error = -RESTART,
    }
    // SAFETY: the structure outlives the call, which reads it.
    unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut response) == 0 }
}

/// How an open file is given to a process whose call waits (`struct seccomp_notif_addfd` of
/// linux/seccomp.h).
#[repr(C)]
struct Gift {
    id: u64,
    flags: u32,
    file: u32,
    number: u32,
    number_flags: u32,
}

/// The number that the file gets is the one that was asked for, whatever was there.
const SET_NUMBER: u32 = 1;
/// The call returns the number, in the same step (Linux 5.14).
const ANSWER: u32 = 2;

/// Gives an open file to the process, and answers the call with its number there. Before Linux
/// 5.14 that takes two steps; a call that ends between them leaves its process a descriptor more.
pub fn answer_with(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    closes_on_exec: bool,
) -> nix::Result<()> {
    match gift(listener, &Gift { flags: ANSWER, ..Gift::of(id, file, closes_on_exec) }) {
        Err(Errno::EINVAL) => in_two_steps(listener, id, file, closes_on_exec),
        given => given.map(drop),
    }
}

/// The same, first the file and then the answer, as every kernel can.
pub fn in_two_steps(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    closes_on_exec: bool,
) -> nix::Result<()> {
    let number = give(listener, id, file, closes_on_exec)?;
    answer(listener, id, Answer::Done(i64::from(number)));
    Ok(())
}

/// Gives an open file to the process; its number there.
pub fn give(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    closes_on_exec: bool,
) -> nix::Result<i32> {
    gift(listener, &Gift::of(id, file, closes_on_exec))
}

/// Puts an open file in the place of a process's descriptor.
pub fn replace(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    (number, closes_on_exec): (i32, bool),
) -> nix::Result<()> {
    let number = number.cast_unsigned();
    let of = Gift::of(id, file, closes_on_exec);
    gift(listener, &Gift { flags: SET_NUMBER, number, ..of }).map(drop)
}

impl Gift {
    fn of(id: u64, file: BorrowedFd<'_>, closes_on_exec: bool) -> Self {
        let number_flags = if closes_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 };
        Self { id, flags: 0, file: file.as_raw_fd().cast_unsigned(), number: 0, number_flags }
    }
}

fn gift(listener: BorrowedFd<'_>, gift: &Gift) -> nix::Result<i32> {
    /// `SECCOMP_IOCTL_NOTIF_ADDFD` of linux/seccomp.h.
    const GIVE: libc::Ioctl = 0x4018_2103;
    // SAFETY: the structure is as large as the request says, outlives the call, and is only read.
    Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), GIVE, std::ptr::from_ref(gift)) })
}
