//! Whether what this jail is made of answers here. Nothing is guessed from the kernel's version or
//! the environment: each thing is done once, on a process that is forked for it.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::getppid;

use super::{enclosure, listeners, made};
use crate::jail::filter;
use crate::jail::usher::thread::Thread;
use crate::sys::notify::{self, Answer};
use crate::sys::{features, pass, process};

/// How long the forked process may take, in milliseconds.
const PATIENCE: u16 = 10_000;

/// What is not to be had, and what the kernel said.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct Lacking {
    /// What.
    pub what: &'static str,
    /// What the kernel, or a filter around us, answered.
    pub source: io::Error,
}

impl Lacking {
    fn of<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self { what, source: error.into() }
    }
}

/// Tries everything.
///
/// Landlock is not only a second wall here: there is no process namespace that hides the user's other
/// processes, and whoever may write to the memory of one of those is outside.
pub fn probe() -> Result<(), Lacking> {
    // Whether it comes into force, the way in says.
    features::landlock_abi().map_err(Lacking::of("Landlock"))?;
    notifications()?;
    made::probe().map_err(Lacking::of("setsockopt(SO_BINDTODEVICE)"))?;
    listeners::probe().map_err(Lacking::of("sock_diag"))?;
    sources().map_err(Lacking::of(NONLOCAL))
}

/// The setting by which everybody may bind an address that is nobody's.
const NONLOCAL: &str = "net.ipv6.ip_nonlocal_bind";

/// Looks whether the kernel lets sockets have foreign addresses. What comes from one over loopback is
/// answered to it, and there is no hook here that sees what it is.
fn sources() -> io::Result<()> {
    let setting = format!("/proc/sys/{}", NONLOCAL.replace('.', "/"));
    match fs::read_to_string(setting) {
        Ok(set) if set.trim() != "0" => {
            Err(io::Error::other("is set: sockets may have any address"))
        }
        Ok(_) => Ok(()),
        // Without IPv6 there is no such setting.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Tries to go into a Landlock domain, as the command will.
pub fn domain() -> nix::Result<()> {
    let restricted = process::fork(|| {
        let done = prctl::set_no_new_privs().is_ok() && enclosure::restrict().is_ok();
        u8::from(!done)
    })?;
    loop {
        match waitpid(restricted, None) {
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(_) | Err(_) => return Err(Errno::EPERM),
        }
    }
}

/// Tries to ask and to answer.
fn notifications() -> Result<(), Lacking> {
    let (ours, theirs) = UnixStream::pair().map_err(Lacking::of("socketpair"))?;
    let kept = std::os::fd::AsRawFd::as_raw_fd(&theirs);
    let asker = process::fork(|| match process::keep_only(&[kept]).and_then(|()| ask(&theirs)) {
        Ok(()) => 0,
        Err(error) => {
            let number = error.raw_os_error().unwrap_or(libc::EIO);
            // The first byte goes with the look for a descriptor.
            drop((&theirs).write_all(&[&[0], &number.to_ne_bytes()[..]].concat()));
            1
        }
    });
    let asker = asker.map_err(Lacking::of("fork"))?;
    drop(theirs);
    let answered = answer(&ours);
    // It ends with its line, whatever became of it.
    drop(ours);
    waitpid(asker, None).map_err(Lacking::of("waitpid"))?;
    answered
}

/// What a call is asked about in the forked process: its number is of no use to anybody else.
const CALL: libc::c_long = libc::SYS_getppid;

/// The forked process: has a call of its own asked about.
fn ask(line: &UnixStream) -> io::Result<()> {
    prctl::set_no_new_privs()?;
    prctl::set_dumpable(true)?;
    let listener = notify::install(&filter::asking(CALL))?;
    pass::send(line.as_fd(), &[0], &[listener.as_fd()])?;
    drop(listener);
    // Nobody but who asks back may know; it is answered with a descriptor's number.
    let _ = getppid();
    Ok(())
}

/// This process: answers it, with everything that this takes.
fn answer(line: &UnixStream) -> Result<(), Lacking> {
    let mut waiting = [PollFd::new(line.as_fd(), PollFlags::POLLIN)];
    let is_there = poll(&mut waiting, PollTimeout::from(PATIENCE));
    if is_there.map_err(Lacking::of("poll"))? == 0 {
        return Err(Lacking::of("seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER)")(Errno::ETIMEDOUT));
    }
    let (_, mut taken) = pass::receive(line.as_fd(), &mut [0]).map_err(Lacking::of("recvmsg"))?;
    let Some(listener) = taken.pop() else {
        return Err(refused(line));
    };
    let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    poll(&mut waiting, PollTimeout::from(PATIENCE)).map_err(Lacking::of("poll"))?;
    let is_asked =
        waiting.iter().any(|it| it.revents().unwrap_or(GONE).contains(PollFlags::POLLIN));
    let asked = if is_asked { notify::receive(listener.as_fd()) } else { Ok(None) };
    let asked = asked.map_err(Lacking::of(RECEIVE))?;
    // Somebody has killed it.
    let asked = asked.ok_or_else(|| Lacking::of(RECEIVE)(Errno::ESRCH))?;
    let seen = look(&asked, &listener);
    if seen.is_err() {
        notify::answer(listener.as_fd(), asked.id(), Answer::Done(0));
    }
    seen
}

/// How a question is read.
const RECEIVE: &str = "ioctl(SECCOMP_IOCTL_NOTIF_RECV)";

/// That nothing will come.
const GONE: PollFlags = PollFlags::empty();

/// Does to the forked process what is done to the command.
fn look(asked: &notify::Notification, listener: &OwnedFd) -> Result<(), Lacking> {
    let thread = Thread::new(asked.thread());
    match thread.socket(0) {
        // Whatever it is, it could be looked at.
        Ok(_) | Err(Errno::ENOTSOCK | Errno::EBADF) => {}
        Err(error) => return Err(Lacking::of("readlink(/proc/PID/fd)")(error)),
    }
    // The same place in a process that was just forked holds the same.
    let place = std::ptr::from_ref(&PLACE).addr();
    let place = u64::try_from(place).unwrap_or_default();
    let word = thread.read(place, PLACE.len()).map_err(Lacking::of("process_vm_readv"))?;
    if word != PLACE {
        return Err(Lacking::of("process_vm_readv")(Errno::EFAULT));
    }
    let null = fs::File::open("/dev/null").map_err(Lacking::of("open(/dev/null)"))?;
    notify::answer_with(listener.as_fd(), asked.id(), null.as_fd(), true)
        .map_err(Lacking::of("ioctl(SECCOMP_IOCTL_NOTIF_ADDFD)"))
}

/// Something to be read in the forked process.
static PLACE: [u8; 8] = *b"boundary";

/// Why the forked process has no filter.
fn refused(mut line: &UnixStream) -> Lacking {
    let mut number = [0; 4];
    let number = line.read_exact(&mut number).map(|()| i32::from_ne_bytes(number));
    let error = number.map_or(Errno::EPIPE, Errno::from_raw);
    Lacking::of("seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER)")(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_told_by_its_name() {
        let lacking = Lacking::of("seccomp")(Errno::EBUSY);
        assert_eq!(lacking.to_string(), "seccomp: Device or resource busy (os error 16)");
    }
}
