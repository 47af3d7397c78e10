//! The calls that signal, where Landlock has no scope for them (before Linux 6.12): to whom the session
//! may, and to nobody else.
//!
//! A signal to the caller's own process goes on in the kernel, because whose numbers those are cannot
//! change while it waits. Every other one is sent by the usher, by handles of who was looked at: the
//! number may be somebody else's by the time that the call would go on. A group is signalled process by
//! process, since boundary may be in it too.
//!
//! *Standing*: what descends from the usher is the session's ([`kin`]), and whoever is in a room may
//! signal what is in there. *Never*: signals anybody else, or says more of him than that he is there.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::sync::OnceLock;
use std::{fs, io};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Pid, geteuid};

use super::aim::Aim;
use super::kin::{self, Everybody};
use super::service::{Asked, Reply, Shared};
use crate::jail::mutation;
use crate::jail::procfs::{self, Stat};
use crate::sys::notify::{self, Answer};
use crate::sys::pidfd::{self, Details, process_of};

/// How often a group is looked at again for whom its processes have started meanwhile.
const LOOKS: usize = 32;

/// What is sent.
#[derive(Debug, Clone, Copy)]
struct Signal {
    number: i32,
    details: Option<Details>,
}

impl Signal {
    /// What a call sends.
    fn of(asked: &Asked) -> nix::Result<Self> {
        let (number, details) = match asked.call {
            libc::SYS_tgkill => (2, None),
            libc::SYS_rt_sigqueueinfo | libc::SYS_pidfd_send_signal => (1, Some(2)),
            libc::SYS_rt_tgsigqueueinfo => (2, Some(3)),
            _ => (1, None),
        };
        let number = asked.number(number);
        // The last is that of SIGRTMAX, on every machine that we run on.
        if !(0..=64).contains(&number) {
            return Err(Errno::EINVAL);
        }
        let at = details.and_then(|place| asked.arguments.get(place).copied());
        let is_handle = asked.call == libc::SYS_pidfd_send_signal;
        let Some(at) = at.filter(|at| *at != 0 || !is_handle) else {
            return Ok(Self { number, details: None });
        };
        let read = Details::new(&asked.thread.read(at, Details::SIZE)?).ok_or(Errno::EFAULT)?;
        // In a queue the argument counts; by a handle the two have to agree, as the kernel will say.
        let details = if is_handle { read } else { read.of_signal(number) };
        Ok(Self { number, details: Some(details) })
    }

    /// The empty one in its place, to see whether it could be sent.
    fn emptied(&self) -> Self {
        Self { number: 0, details: self.details.map(|details| details.of_signal(0)) }
    }
}

/// Who may signal whom, by their ids (kill(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    real: u32,
    effective: u32,
    saved: u32,
    /// Whether it has `CAP_KILL`.
    is_free: bool,
}

impl Ids {
    /// Those of a process or a thread.
    fn of(process: u32) -> nix::Result<Self> {
        Self::parse(&status(process)?).ok_or(Errno::ESRCH)
    }

    /// Reads them from the text of a `status` (proc(5)).
    pub(super) fn parse(status: &str) -> Option<Self> {
        /// The bit of `CAP_KILL` of linux/capability.h.
        const KILL: u64 = 1 << 5;
        let ids = field(status, "Uid:")?;
        let mut ids = ids.split_ascii_whitespace().map(str::parse);
        let mut next = || ids.next()?.ok();
        let [real, effective, saved] = [next()?, next()?, next()?];
        let rights = u64::from_str_radix(field(status, "CapEff:")?.trim(), 16).ok()?;
        Some(Self { real, effective, saved, is_free: rights & KILL != 0 })
    }

    /// Whether who has these may signal who has others.
    fn may(self, other: Self) -> bool {
        let theirs = [other.real, other.saved];
        self.is_free || theirs.contains(&self.real) || theirs.contains(&self.effective)
    }
}

/// The text of a `status` (proc(5)).
fn status(process: u32) -> nix::Result<String> {
    procfs::text(format!("/proc/{process}/status")).map_err(|error| errno(&error))
}

/// What stands behind a name in a `status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))
}

/// Where a process or a thread stands; none if there is none of this number.
fn look(process: u32) -> nix::Result<Option<Stat>> {
    Stat::of(process).map_err(|error| errno(&error))
}

/// The error number of an error of procfs. There is no such process, as far as a caller is concerned.
fn errno(error: &io::Error) -> Errno {
    if procfs::is_gone(error) {
        return Errno::ESRCH;
    }
    error.raw_os_error().map_or(Errno::EPERM, Errno::from_raw)
}

/// Sends what a call sends, to whom it may.
pub(super) fn send(shared: &Shared, asked: &Asked) -> nix::Result<Reply> {
    let thread = asked.thread.number();
    let aim = Aim::of(asked.call, [asked.number(0), asked.number(1)], thread)?;
    if aim == Aim::Oneself {
        return Ok(Reply::Continue);
    }
    let process = process_of(thread)?;
    if matches!(aim, Aim::Process(to) | Aim::Thread(Some(to), _) if to == process) {
        return Ok(Reply::Continue);
    }
    let sender = Sender::new(shared, asked, process)?;
    match aim {
        Aim::Oneself => Ok(Reply::Continue),
        Aim::Process(to) => sender.to_process(to),
        Aim::Thread(of, to) => sender.to_thread(of, to),
        Aim::Handle(number) => sender.to_handle(number),
        Aim::Group(None) => sender.to_many(Some(sender.stat.group)),
        Aim::Group(group) => sender.to_many(group),
        Aim::Everybody => sender.to_many(None),
    }
}

/// Whether whoever signals waits for the answer whatever happens, and may get it when all is done. Before
/// Linux 5.19 the end of a child, or the signal itself, would have the same call made again.
fn is_patient() -> bool {
    static IS_PATIENT: OnceLock<bool> = OnceLock::new();
    *IS_PATIENT.get_or_init(|| notify::waits_killable() && mutation::stands("patience"))
}

/// That a call has done what it should.
const DONE: Reply = Reply::Answer(Answer::Done(0));

/// Who signals, and what.
struct Sender<'a> {
    shared: &'a Shared,
    asked: &'a Asked,
    signal: Signal,
    process: u32,
    stat: Stat,
    room: u64,
    /// Its ids, where the kernel would go by ours: elsewhere they are the same.
    ids: Option<Ids>,
}

impl<'a> Sender<'a> {
    /// Whoever calls. All of that is its own if it waits still.
    fn new(shared: &'a Shared, asked: &'a Asked, process: u32) -> nix::Result<Self> {
        let thread = asked.thread.number();
        let signal = Signal::of(asked)?;
        let stat = look(thread)?.ok_or(Errno::ESRCH)?;
        let ids = geteuid().is_root().then(|| Ids::of(thread)).transpose()?;
        let room = shared.room(asked)?;
        let sender = Self { shared, asked, signal, process, stat, room, ids };
        if shared.is_waiting(asked) { Ok(sender) } else { Err(Errno::EINTR) }
    }

    /// Signals the process that has a thread of this number.
    fn to_process(&self, thread: u32) -> nix::Result<Reply> {
        let process = process_of(thread)?;
        let handle = self.handle(process)?;
        if thread != process && !has_thread(process, thread)? {
            return Err(Errno::ESRCH);
        }
        self.deliver(|signal| pidfd::send(handle.as_fd(), signal.number, signal.details.as_ref()))
    }

    /// Signals a thread, of this process if that is said.
    fn to_thread(&self, of: Option<u32>, thread: u32) -> nix::Result<Reply> {
        let process = of.map_or_else(|| process_of(thread), Ok)?;
        let to = pidfd::open_thread(number(thread)?);
        let handle = match self.handle(process) {
            // A thread's, which is no process.
            Err(Errno::EINVAL | Errno::ENOENT) => return Err(Errno::ESRCH),
            handle => handle?,
        };
        if !has_thread(process, thread)? {
            return Err(Errno::ESRCH);
        }
        if let Ok(to) = to {
            return self
                .deliver(|signal| pidfd::send(to.as_fd(), signal.number, signal.details.as_ref()));
        }
        let numbers = (number(process)?, number(thread)?);
        self.deliver(|signal| {
            // Before Linux 6.9: the number is its own now, which is as close as it gets.
            pidfd::send(handle.as_fd(), 0, None)?;
            pidfd::send_by_number(numbers, signal.number, signal.details.as_ref())
        })
    }

    /// Signals whom a descriptor of the caller is a handle of.
    fn to_handle(&self, descriptor: i32) -> nix::Result<Reply> {
        // Neither flags nor descriptors with a meaning of their own are known everywhere.
        if self.asked.number(3) != 0 {
            return Err(Errno::EINVAL);
        }
        if descriptor < 0 {
            return Err(Errno::EBADF);
        }
        let thread = self.asked.thread.number();
        let process = held(thread, descriptor)?;
        let handle = self.handle(process_of(process)?)?;
        // It had the number before we had a handle, and has it still: it is the same one.
        if held(thread, descriptor)? != process {
            return Err(Errno::ESRCH);
        }
        self.deliver(|signal| pidfd::send(handle.as_fd(), signal.number, signal.details.as_ref()))
    }

    /// Sends the signal, and answers: first that, where the caller would not wait.
    fn deliver(&self, send: impl Fn(&Signal) -> nix::Result<()>) -> nix::Result<Reply> {
        if is_patient() {
            send(&self.signal)?;
            return Ok(DONE);
        }
        send(&self.signal.emptied())?;
        self.shared.reply(self.asked, Ok(DONE));
        // It could be a moment ago; who has ended since needs none.
        send(&self.signal).unwrap_or_default();
        Ok(Reply::Given)
    }

    /// A handle of a process, if that may be signalled. What was looked at was this one's if the handle
    /// is still good for a signal.
    fn handle(&self, process: u32) -> nix::Result<OwnedFd> {
        let handle = pidfd::open(number(process)?)?;
        if self.may_signal(process)? {
            return Ok(handle);
        }
        // Whoever is not there at all is nobody's secret.
        Err(if look(process)?.is_none() { Errno::ESRCH } else { Errno::EPERM })
    }

    /// Whether a process may be signalled from here.
    fn may_signal(&self, process: u32) -> nix::Result<bool> {
        let is_below = kin::is_below(process, std::process::id());
        Ok(is_below.map_err(|error| errno(&error))? && self.may_signal_in_session(process)?)
    }

    /// Whether one that is of the session may be.
    fn may_signal_in_session(&self, process: u32) -> nix::Result<bool> {
        if self.room != 0 {
            let room = self.shared.rooms.of(process).map_err(|error| errno(&error))?;
            if !self.shared.rooms.is_inside(room, self.room) {
                return Ok(false);
            }
        }
        let Some(ids) = self.ids else { return Ok(true) };
        if process == self.process || ids.may(Ids::of(process)?) {
            return Ok(true);
        }
        let is_beside = look(process)?.is_some_and(|stat| stat.session == self.stat.session);
        Ok(self.signal.number == libc::SIGCONT && is_beside)
    }

    /// Signals everybody in a group, or everybody but the caller, and answers. The caller's own process
    /// comes last.
    fn to_many(&self, group: Option<u32>) -> nix::Result<Reply> {
        let own =
            (group == Some(self.stat.group)).then(|| number(self.process).and_then(pidfd::open));
        let own = own.transpose()?;
        // Whoever it ends does not call again.
        let is_ended = own.is_some() && is_ended(self.process, self.signal.number);
        let is_patient = is_patient() || is_ended;
        let outcome = self.sweep(group, if is_patient { self.signal.number } else { 0 })?;
        if own.is_none() {
            outcome.of(group)?;
        }
        if !is_patient {
            self.shared.reply(self.asked, Ok(DONE));
            self.sweep(group, self.signal.number).map(drop).unwrap_or_default();
        }
        if let Some(own) = own {
            // It is there: it waits.
            pidfd::send(own.as_fd(), self.signal.number, None).unwrap_or_default();
        }
        Ok(if is_patient { DONE } else { Reply::Given })
    }

    /// Signals everybody in a group, or everybody, but the caller.
    fn sweep(&self, group: Option<u32>, signal: i32) -> nix::Result<Outcome> {
        let (mut met, mut outcome) = (HashMap::new(), Outcome::default());
        let is_meant = |stat: &Stat| {
            group.is_none_or(|group| stat.group == group)
                && stat.number > 1
                && stat.number != self.process
        };
        let mut everybody = Everybody::look().map_err(|error| errno(&error))?;
        for _ in 0..LOOKS {
            let is_fresh =
                |stat: &&Stat| is_meant(stat) && met.get(&stat.number) != Some(&stat.started);
            let fresh: Vec<Stat> = everybody.now().filter(is_fresh).cloned().collect();
            let is_late =
                |stat: &Stat| met.contains_key(&stat.parent) && is_heeded(stat.parent, signal);
            let (late, fresh): (Vec<_>, Vec<_>) = fresh.into_iter().partition(is_late);
            if fresh.is_empty() {
                break;
            }
            for stat in &fresh {
                let is_below = everybody.is_below(stat.number, std::process::id());
                outcome.note(self.to_member(stat, is_below, (group, signal)));
            }
            met.extend(late.into_iter().chain(fresh).map(|stat| (stat.number, stat.started)));
            if signal == 0 {
                break;
            }
            everybody = everybody.again().map_err(|error| errno(&error))?;
        }
        Ok(outcome)
    }

    /// Signals one of many, if it is the one that was looked at, and among them still. Whether it is of
    /// the session may be known.
    fn to_member(
        &self,
        member: &Stat,
        is_below: Option<bool>,
        (group, signal): (Option<u32>, i32),
    ) -> nix::Result<()> {
        let process = member.number;
        let handle = pidfd::open(number(process)?)?;
        let may = match is_below {
            Some(is_below) => is_below && self.may_signal_in_session(process)?,
            None => self.may_signal(process)?,
        };
        let now = look(process)?.filter(|now| now.started == member.started);
        let now = now.ok_or(Errno::ESRCH)?;
        if group.is_some_and(|group| now.group != group) {
            return Err(Errno::ESRCH);
        }
        if !may {
            return Err(Errno::EPERM);
        }
        pidfd::send(handle.as_fd(), signal, None)
    }
}

/// What came of signalling many.
#[derive(Debug, Default)]
struct Outcome {
    is_sent: bool,
    error: Option<Errno>,
}

impl Outcome {
    fn note(&mut self, sent: nix::Result<()>) {
        match sent {
            Ok(()) => self.is_sent = true,
            // It has ended, or has left: it is none of them.
            Err(Errno::ESRCH) => {}
            Err(error) => self.error = Some(error),
        }
    }

    /// What the kernel says of a group: it is enough that one was signalled. Of everybody it says so
    /// whoever may not be.
    fn of(&self, group: Option<u32>) -> nix::Result<()> {
        match self.error {
            Some(Errno::EPERM) if group.is_none() => Ok(()),
            Some(error) if !self.is_sent => Err(error),
            None if !self.is_sent => Err(Errno::ESRCH),
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether a process does something of its own at a signal, or nothing: what it starts then was not
/// there to be signalled.
fn is_heeded(process: u32, signal: i32) -> bool {
    let Ok(status) = status(process) else { return false };
    let bit =
        u32::try_from(signal).ok().and_then(|signal| 1_u64.checked_shl(signal.checked_sub(1)?));
    let has = |name| {
        let set = field(&status, name).and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        set.zip(bit).is_some_and(|(set, bit)| set & bit != 0)
    };
    ["SigBlk:", "SigIgn:", "SigCgt:"].into_iter().any(has)
}

/// Whether a signal neither stops a process nor is heeded by it: it ends it, or is nothing to it.
fn is_ended(process: u32, signal: i32) -> bool {
    const STOPS: [i32; 4] = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    !STOPS.contains(&signal) && !is_heeded(process, signal)
}

/// Whether a process has a thread of this number.
fn has_thread(process: u32, thread: u32) -> nix::Result<bool> {
    let is_there = fs::exists(format!("/proc/{process}/task/{thread}"));
    is_there.map_err(|error| errno(&error))
}

/// The process that a descriptor is a handle of: one that is made for it, or the process's folder in
/// procfs, which is good for the same.
fn held(thread: u32, descriptor: i32) -> nix::Result<u32> {
    if let Some(number) =
        procfs::held(&thread.to_string(), descriptor).map_err(|error| bad(&error))?
    {
        return u32::try_from(number).ok().filter(|number| *number > 0).ok_or(Errno::ESRCH);
    }
    let link =
        fs::read_link(format!("/proc/{thread}/fd/{descriptor}")).map_err(|error| bad(&error))?;
    let number = link.to_str().and_then(|link| link.strip_prefix("/proc/")?.parse().ok());
    number.ok_or(Errno::EBADF)
}

/// The error number for a descriptor that cannot be looked at.
fn bad(error: &io::Error) -> Errno {
    if procfs::is_gone(error) { Errno::EBADF } else { errno(error) }
}

/// A number as the kernel takes it.
fn number(process: u32) -> nix::Result<Pid> {
    i32::try_from(process).map(Pid::from_raw).map_err(|_wide| Errno::ESRCH)
}

/// `fcntl(2)` and `ioctl(2)` that arrange for a signal when a file is ready.
///
/// Whom it goes to can only be the caller: nobody is behind a group's number for certain. A terminal
/// has it for its whole foreground unless it is told otherwise, in which others are; so not for a device.
pub(super) fn arrange(asked: &Asked) -> nix::Result<Reply> {
    let (descriptor, command) = (asked.number(0), asked.number(1));
    let thread = asked.thread.number();
    if asked.call == libc::SYS_fcntl && command == libc::F_SETOWN {
        let owner = asked.number(2);
        let is_own = owner == 0
            || u32::try_from(owner).is_ok_and(|owner| {
                owner == thread || process_of(thread).is_ok_and(|own| own == owner)
            });
        return if is_own { Ok(Reply::Continue) } else { Err(Errno::EPERM) };
    }
    match fs::metadata(format!("/proc/{thread}/fd/{descriptor}")) {
        Ok(file) if file.file_type().is_char_device() => Err(Errno::EPERM),
        Ok(_) => Ok(Reply::Continue),
        // The kernel says the same of it.
        Err(error) if procfs::is_gone(&error) => Ok(Reply::Continue),
        Err(_) => Err(Errno::EPERM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_signal_whom_is_what_kill_says() {
        let ids = |real, effective, saved| Ids { real, effective, saved, is_free: false };
        let user = ids(7, 7, 7);
        assert!(user.may(user) && user.may(ids(7, 8, 8)) && user.may(ids(8, 8, 7)));
        assert!(!user.may(ids(8, 7, 8)), "the effective id of the other does not count");
        assert!(ids(8, 7, 8).may(user), "one's own does");
        assert!(Ids { is_free: true, ..user }.may(ids(0, 0, 0)));
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nCapEff:\t0000000000000020\n";
        let expected = Ids { real: 1, effective: 2, saved: 3, is_free: true };
        assert_eq!(Ids::parse(status), Some(expected));
    }

    #[test]
    fn one_who_is_signalled_is_enough_for_a_group_and_nobody_for_everybody() {
        let outcome = |of: &[nix::Result<()>]| {
            let mut outcome = Outcome::default();
            for sent in of {
                outcome.note(*sent);
            }
            outcome
        };
        let (refused, gone) = (Err(Errno::EPERM), Err(Errno::ESRCH));
        assert_eq!(outcome(&[refused, Ok(()), refused]).of(Some(1)), Ok(()));
        assert_eq!(outcome(&[gone, refused]).of(Some(1)), refused);
        assert_eq!(outcome(&[gone]).of(Some(1)), gone);
        assert_eq!(outcome(&[refused]).of(None), Ok(()));
        assert_eq!(outcome(&[]).of(None), gone);
    }

    #[test]
    fn a_handle_and_a_folder_of_procfs_say_whose_they_are() {
        use std::os::fd::AsRawFd as _;
        let own = std::process::id();
        let handle = pidfd::open(number(own).unwrap()).unwrap();
        let folder = fs::File::open(format!("/proc/{own}")).unwrap();
        let other = fs::File::open("/proc").unwrap();
        assert_eq!(held(own, handle.as_raw_fd()), Ok(own));
        assert_eq!(held(own, folder.as_raw_fd()), Ok(own));
        assert_eq!(held(own, other.as_raw_fd()), Err(Errno::EBADF));
        assert_eq!(held(own, 999_999), Err(Errno::EBADF));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let handle = pidfd::open(number(child.id()).unwrap()).unwrap();
        child.wait().unwrap();
        assert_eq!(held(own, handle.as_raw_fd()), Err(Errno::ESRCH));
    }

    #[test]
    fn a_thread_is_of_its_process() {
        let own = std::process::id();
        assert_eq!(process_of(own), Ok(own));
        let thread = nix::unistd::gettid().as_raw().unsigned_abs();
        assert_eq!(process_of(thread), Ok(own));
        assert_eq!(has_thread(own, thread), Ok(true));
        assert_eq!(has_thread(own, 1), Ok(false));
        assert!(is_heeded(own, libc::SIGPIPE), "the runtime ignores it");
        assert!(!is_heeded(own, libc::SIGKILL));
    }
}
