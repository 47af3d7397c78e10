//! The command's way into the jail: every right that could change a wall is given up, in the
//! order in which each step still has the rights it needs.
//!
//! *Standing*: `session::command` calls [`enclose`] in the forked child, then [`start`].
//! *Never*: runs in the keeper or the proxy.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use landlock::{
    Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike as _, SockaddrStorage, getsockname, getsockopt, sockopt,
};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, Uid, execve, geteuid, getgrouplist, setgroups, setresgid, setresuid};

use super::certificates::Bundle;
use super::filter::{Beside, Signals};
use super::usher::{Desk, Seat};
use super::{Call, Users, canary, filter, landjail, mounts, mutation};
use crate::sys::{features, notify, process};

/// Whom the command runs as.
#[derive(Debug, Clone)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Its groups.
    pub groups: Vec<u32>,
}

impl Identity {
    /// A user with this login name, if it has one, and the groups of that name.
    ///
    /// They are looked up here and not behind the walls: the C library may ask a daemon for them.
    pub fn of(uid: u32, gid: u32, name: Option<&str>) -> Result<Self, Call> {
        let name = name.map(CString::new).transpose().map_err(io::Error::other);
        let groups = match name.map_err(Call::to("getpwuid"))? {
            Some(name) => getgrouplist(&name, Gid::from_raw(gid)),
            None => Ok(vec![Gid::from_raw(gid)]),
        };
        let groups = groups.map_err(Call::to("getgrouplist"))?.into_iter().map(Gid::as_raw);
        Ok(Self { uid, gid, groups: groups.collect() })
    }

    /// Whether the command runs as uid 0, which no missing capability confines (it owns
    /// `core_pattern`, `release_agent`, `cgroup.procs`): it gets a user namespace.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Takes on the user's groups and ids and gives up every capability; nothing can be taken
    /// back.
    ///
    /// Who has no privilege is the user already, and has nothing to give up.
    pub fn assume(&self) -> Result<(), Call> {
        self.assume_with(&[])
    }

    /// The same, but for capabilities that it keeps, of those that it has.
    pub fn assume_with(&self, keep: &[u32]) -> Result<(), Call> {
        if process::has_capability(SETPCAP) {
            process::bound_capabilities(&[]).map_err(Call::to("prctl(PR_CAPBSET_DROP)"))?;
        }
        if geteuid().as_raw() != self.uid || process::has_capability(SETGID) {
            if !keep.is_empty() {
                process::keep_permitted().map_err(Call::to("prctl(PR_SET_KEEPCAPS)"))?;
            }
            self.take_ids()?;
        }
        process::hold_capabilities(keep).map_err(Call::to("capset"))
    }

    /// Takes on the user's groups and ids.
    pub fn take_ids(&self) -> Result<(), Call> {
        let gid = Gid::from_raw(self.gid);
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups).map_err(Call::to("setgroups"))?;
        setresgid(gid, gid, gid).map_err(Call::to("setresgid"))?;
        let uid = Uid::from_raw(self.uid);
        setresuid(uid, uid, uid).map_err(Call::to("setresuid"))
    }
}

/// `CAP_SETGID` of linux/capability.h.
const SETGID: u32 = 6;
/// `CAP_SETPCAP` of linux/capability.h.
const SETPCAP: u32 = 8;

/// How a process came behind the walls.
#[derive(Debug, Clone)]
pub enum Entry {
    /// It is in the session's cgroup; its namespaces are still the caller's.
    Cgroup {
        /// Whether hooks there judge the calls that name a unix socket.
        unix: bool,
    },
    /// It is in namespaces of its own, where it has every right. The table of unix sockets is that
    /// of the network outside, as `/proc/net/unix` shows it.
    Namespaces {
        /// The table.
        unix: Vec<u8>,
        /// Whether a user namespace is among them.
        users: Users,
    },
    /// It is where the caller is; who makes its sockets is its own parent.
    Supervised,
}

/// What the way in cannot find out by itself.
#[derive(Debug)]
pub struct Enclosure<'a> {
    /// Whom the command runs as.
    pub identity: &'a Identity,
    /// The certificates it is to see.
    pub bundle: &'a Bundle,
    /// The files of the record and of the policy, which it may read and not change.
    pub guarded: &'a [PathBuf],
    /// Who leads it to unix sockets.
    pub usher: Seat<'a>,
    /// How it came this far.
    pub entry: &'a Entry,
}

/// The way into the jail failed; the command does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A kernel call was refused.
    #[error(transparent)]
    Call(#[from] Call),
    /// Standard input, output or error is a network socket.
    #[error("descriptor {0} is a network socket, which would be a way out")]
    Socket(RawFd),
    /// Standard input, output or error is a socket of the unix family that keeps the bounds of what is
    /// sent.
    #[error(
        "descriptor {0} is a unix socket of messages, each of which may name who is to get it: give a \
         stream or a pipe"
    )]
    Messages(RawFd),
    /// Standard input, output or error is a directory.
    #[error("descriptor {0} is a directory, which would be a way round what is covered")]
    Directory(RawFd),
    /// Landlock could not be put in force.
    #[error("landlock")]
    Landlock(#[source] Unrestricted),
    /// Root would change the machine's settings, and no mount could be put over them.
    #[error("{0} is root's to write here, and cannot be covered; run as an ordinary user")]
    Machine(&'static str),
    /// The finished jail leaks.
    #[error("the jail is not tight: {0}")]
    Leak(#[from] canary::Leak),
}

/// Capabilities that uid 0 keeps inside its own user namespace, so that installing packages and
/// changing owners works: `CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `FSETID`, `KILL`, `SETGID`, `SETUID`,
/// `SETPCAP` (`su` and `apt` lower their own), `NET_BIND_SERVICE`, `SYS_CHROOT`.
///
/// They count for files, because every id is mapped, and for nothing that belongs to the
/// machine's own user namespace: networks, mounts, devices, BPF.
pub(in crate::jail) const ROOT_KEEPS: &[u32] = &[0, 1, 3, 4, 5, 6, 7, 8, 10, 18];

/// Goes into the jail for good, and proves that it holds.
///
/// `map_ids` is called once the process is in a user namespace of its own, and returns when
/// somebody outside has written its maps.
pub fn enclose(
    enclosure: &Enclosure<'_>,
    map_ids: impl FnOnce() -> Result<(), Call>,
) -> Result<(), Error> {
    if let Entry::Supervised = enclosure.entry {
        return landjail::enclose(enclosure);
    }
    if mutation::stands("descriptors") {
        refuse_ways_out()?;
    }
    no_core_files()?;
    mounts::arrange(enclosure)?;
    if mutation::stands("landlock") {
        restrict_if_possible(best_effort()).map_err(Error::Landlock)?;
    }
    // In the command's domain, so that it reaches no abstract socket that the command does not.
    let usher = Desk::open(&enclosure.usher)?;
    if mutation::stands("landlock") {
        // And in one below it, so that the command cannot signal the usher, nor reach what the usher
        // leads to but by it.
        let ruleset = to_own_sockets().map_err(Unrestricted::from).map_err(Error::Landlock)?;
        restrict_if_possible(ruleset).map_err(Error::Landlock)?;
    }
    give_up(enclosure, map_ids)?;
    mounts::leave_covered_directory()?;
    if mutation::stands("new_privs") {
        prctl::set_no_new_privs().map_err(Call::to("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    }
    if mutation::stands("seccomp") {
        let beside = match enclosure.entry {
            &Entry::Cgroup { unix } => Beside::Hooks { unix },
            Entry::Namespaces { .. } => Beside::Nobody,
            Entry::Supervised => Beside::Usher,
        };
        let program = filter::program(beside, signals(Signals::Namespace));
        let listener = notify::install(&program).map_err(Call::to("seccomp"))?;
        usher.hand_over(listener)?;
    }
    if mutation::stands("canary") {
        canary::sing(enclosure.entry)?;
    }
    Ok(())
}

/// Becomes the user without a right over the walls.
fn give_up(
    enclosure: &Enclosure<'_>,
    map_ids: impl FnOnce() -> Result<(), Call>,
) -> Result<(), Call> {
    match (enclosure.entry, enclosure.identity.is_root()) {
        (Entry::Cgroup { .. }, true) => {
            if mutation::stands("userns") {
                unshare(CloneFlags::CLONE_NEWUSER).map_err(Call::to("unshare(CLONE_NEWUSER)"))?;
                map_ids()?;
            }
            limit_capabilities(ROOT_KEEPS)
        }
        (
            Entry::Cgroup { .. }
            | Entry::Supervised
            | Entry::Namespaces { users: Users::Machine, .. },
            false,
        ) => enclosure.identity.assume(),
        // The ids are the user's, and the user namespace is the session's.
        (Entry::Namespaces { .. } | Entry::Supervised, true) => limit_capabilities(ROOT_KEEPS),
        (Entry::Namespaces { users: Users::Own, .. }, false) => {
            // Or the usher, which has no right outside, could not look into what taking on the ids
            // has closed. What is in here is the user's own.
            prctl::set_dumpable(true).map_err(Call::to("prctl(PR_SET_DUMPABLE)"))?;
            limit_capabilities(&[])
        }
    }
}

/// Gives up every capability but these, for good.
pub(super) fn limit_capabilities(keep: &[u32]) -> Result<(), Call> {
    if !mutation::stands("capabilities") {
        return Ok(());
    }
    process::bound_capabilities(keep).map_err(Call::to("prctl(PR_CAPBSET_DROP)"))?;
    process::hold_capabilities(keep).map_err(Call::to("capset"))
}

/// Refuses descriptors 0 to 2 that lead past the walls.
///
/// Those are sockets of any family but unix, since what is written to them leaves by no door (those of
/// a wire, a virtual machine's host or the kernel as much as TCP's), and directories, through which
/// files are opened below whatever covers them.
pub fn refuse_ways_out() -> Result<(), Error> {
    let stdin = io::stdin();
    let stdout = io::stdout();
    let stderr = io::stderr();
    for (number, fd) in [(0, stdin.as_fd()), (1, stdout.as_fd()), (2, stderr.as_fd())] {
        let kind = SFlag::from_bits_truncate(fstat(fd).map_err(Call::to("fstat"))?.st_mode);
        match kind & SFlag::S_IFMT {
            SFlag::S_IFDIR => return Err(Error::Directory(number)),
            SFlag::S_IFSOCK if !is_unix(fd) => return Err(Error::Socket(number)),
            _ => {}
        }
    }
    Ok(())
}

/// Refuses descriptors 0 to 2 that are sockets for datagrams: of the unix family they take the name of
/// whoever is to get it with each, and in landjail the kernel would look for it.
pub(super) fn refuse_datagrams() -> Result<(), Error> {
    refuse_kinds(&[SockType::Datagram])
}

/// Refuses those that keep the bounds of what is sent: to a command in landjail its usher gives them in
/// place of sockets for datagrams.
pub fn refuse_messages() -> Result<(), Error> {
    refuse_kinds(&[SockType::Datagram, SockType::SeqPacket])
}

fn refuse_kinds(kinds: &[SockType]) -> Result<(), Error> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    for (number, fd) in [(0, stdin.as_fd()), (1, stdout.as_fd()), (2, stderr.as_fd())] {
        if getsockopt(&fd, sockopt::SockType).is_ok_and(|kind| kinds.contains(&kind)) {
            return Err(Error::Messages(number));
        }
    }
    Ok(())
}

/// Whether a socket is of the unix family. One that does not say what it is, is not.
pub(in crate::jail) fn is_unix(socket: BorrowedFd<'_>) -> bool {
    getsockname::<SockaddrStorage>(socket.as_raw_fd())
        .is_ok_and(|name| name.family() == Some(AddressFamily::Unix))
}

/// Lets no crash of the command be piped to a program outside: a limit of 1 makes the kernel
/// skip `core_pattern`'s pipe (core(5)). The [`filter`] keeps it there.
///
/// sudo leaves a hard limit of 0, which only `CAP_SYS_RESOURCE` raises. Without that, 0 is as good
/// where cores are files; where somebody gets them it is none, because the kernel ignores it there.
pub(super) fn no_core_files() -> Result<(), Call> {
    use nix::sys::resource::{Resource, setrlimit};
    let pattern = || fs::read("/proc/sys/kernel/core_pattern");
    match setrlimit(Resource::RLIMIT_CORE, 1, 1) {
        Err(Errno::EPERM) if pattern().is_ok_and(|to| !leaves(&to)) => Ok(()),
        set => set.map_err(Call::to("setrlimit(RLIMIT_CORE)")),
    }
}

/// Whether a `core_pattern` hands cores to somebody: to a program, or to who listens at a unix socket
/// (`@`, Linux 6.16).
fn leaves(pattern: &[u8]) -> bool {
    matches!(pattern, [b'|' | b'@', ..])
}

/// Whether the kernel hands crashes to who listens at a unix socket, which it does whatever the limit is. It
/// connects as who crashes: only hooks that judge the sockets of the session keep one in.
pub fn sends_crashes() -> bool {
    fs::read("/proc/sys/kernel/core_pattern").is_ok_and(|to| to.starts_with(b"@"))
}

/// Puts the command into a Landlock domain: it cannot trace out of it on any kernel that has
/// Landlock (5.13), nor signal or reach abstract unix sockets out of it since 6.12.
///
/// File access is not restricted. One right is named and granted everywhere, because a domain
/// must name something, and `Refer` with it.
pub fn restrict() -> Result<(), Unrestricted> {
    restrict_by(to_own_sockets()?)
}

/// A set of rules that leaves out what an older kernel does not know.
fn best_effort() -> Ruleset {
    Ruleset::default().set_compatibility(CompatLevel::BestEffort)
}

/// One by which no path leads to a unix socket that was made outside (Linux 7.1). Who gets into the
/// kernel with a name that nobody has judged, because it was another one then, does not get to it.
pub(super) fn to_own_sockets() -> Result<Ruleset, RulesetError> {
    best_effort().handle_access(AccessFs::ResolveUnix)
}

/// Keeps the caller, and whatever it makes, to abstract names of unix sockets that are made in there too
/// (Linux 6.12). Who connects for others by such a name has judged what it was, not what it is.
pub(super) fn keep_to_own_names() -> Result<(), RulesetError> {
    let ruleset = best_effort().scope(Scope::AbstractUnixSocket)?;
    granting(ruleset, AccessFs::Refer.into())?.restrict_self().map(drop)
}

/// Puts it into such a domain where the kernel has Landlock. For a command in a pid namespace of its own:
/// elsewhere no wall stands behind this one.
fn restrict_if_possible(ruleset: Ruleset) -> Result<(), Unrestricted> {
    match restrict_by(ruleset) {
        Err(Unrestricted::Absent) => Ok(()),
        done => done,
    }
}

/// Why the command is not in a Landlock domain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unrestricted {
    /// The kernel refused a part of it.
    #[error(transparent)]
    Refused(#[from] RulesetError),
    /// The kernel does not do it at all.
    #[error("it is not in force here; it needs Linux 5.13, and landlock in the list of lsm=")]
    Absent,
}

/// Does so with a set that has something more to it.
pub(super) fn restrict_by(ruleset: Ruleset) -> Result<(), Unrestricted> {
    let named = AccessFs::MakeBlock | AccessFs::Refer;
    let mut scope = Scope::from_all(landlock::ABI::V6);
    if !is_scoped() {
        scope.remove(Scope::Signal);
    }
    match granting(ruleset.scope(scope)?, named)?.restrict_self()?.ruleset {
        RulesetStatus::NotEnforced => Err(Unrestricted::Absent),
        // What an older kernel leaves out is in docs/kernels.md; that nobody is traced is in all.
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}

/// A set that names rights and grants them everywhere. `Refer` is one of them in each, or renaming across
/// directories is refused by it as soon as another set of the domain names any.
fn granting(ruleset: Ruleset, named: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    let ruleset = ruleset.handle_access(named)?.create()?;
    match PathFd::new("/") {
        Ok(root) => ruleset.add_rule(PathBeneath::new(root, named)),
        Err(_) => Ok(ruleset),
    }
}

/// Whether signals end at the command's Landlock domain.
fn is_scoped() -> bool {
    /// The version of Landlock that has scopes.
    const SCOPES: i64 = 6;
    let has_scopes = features::landlock_abi().is_ok_and(|version| version >= SCOPES);
    has_scopes && mutation::stands("signal_scope")
}

/// Who keeps signals in: Landlock, where it has a scope for them, else who is told here.
pub(super) fn signals(otherwise: Signals) -> Signals {
    if is_scoped() || !mutation::stands("signals") { Signals::Landlock } else { otherwise }
}

/// Becomes the command. Returns only when it could not be started.
pub fn start(command: &[OsString], environment: &[(OsString, OsString)]) -> Errno {
    let Some(name) = command.first() else { return Errno::ENOENT };
    let arguments: Vec<CString> = command.iter().filter_map(|word| c_string(word)).collect();
    if arguments.len() != command.len() {
        return Errno::EINVAL;
    }
    let environment: Vec<CString> =
        environment.iter().filter_map(|(name, value)| c_string(&join(name, value))).collect();
    let mut failure = Errno::ENOENT;
    for candidate in candidates(name, &environment) {
        let error = execute(&candidate, &arguments, &environment);
        if error == Errno::EACCES {
            // Found, but not to be run: a later directory may still have one that is.
            failure = error;
        } else if !matches!(error, Errno::ENOENT | Errno::ENOTDIR) {
            return error;
        }
    }
    failure
}

/// Runs one candidate; a script without a `#!` line is given to the shell, as execvp(3) does.
fn execute(path: &CString, arguments: &[CString], environment: &[CString]) -> Errno {
    let Err(error) = execve(path, arguments, environment);
    if error != Errno::ENOEXEC {
        return error;
    }
    let shell = c"/bin/sh".to_owned();
    let mut script = vec![shell.clone(), path.clone()];
    script.extend(arguments.iter().skip(1).cloned());
    let Err(error) = execve(&shell, &script, environment);
    error
}

/// Where a program of this name may lie: itself when it is a path, else below each entry of the
/// command's `PATH`.
fn candidates(name: &OsStr, environment: &[CString]) -> Vec<CString> {
    if name.as_bytes().contains(&b'/') {
        return c_string(name).into_iter().collect();
    }
    let path = environment
        .iter()
        .find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="))
        .unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
    path.split(|&byte| byte == b':')
        .map(|directory| if directory.is_empty() { b"." } else { directory })
        .filter_map(|directory| {
            c_string(Path::new(OsStr::from_bytes(directory)).join(name).as_os_str())
        })
        .collect()
}

/// `NAME=value`, as execve(2) takes it.
fn join(name: &OsStr, value: &OsStr) -> OsString {
    OsString::from_vec([name.as_bytes(), b"=", value.as_bytes()].concat())
}

fn c_string(text: &OsStr) -> Option<CString> {
    CString::new(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_somebody_gets_is_told_from_one_that_is_a_file() {
        for pattern in ["|/usr/bin/handler %p", "@/run/coredump.sock", "@@/run/coredump.sock"] {
            assert!(leaves(pattern.as_bytes()), "{pattern}");
        }
        for pattern in ["", "core", "/var/cores/%p", "core@%h|"] {
            assert!(!leaves(pattern.as_bytes()), "{pattern}");
        }
    }
}
