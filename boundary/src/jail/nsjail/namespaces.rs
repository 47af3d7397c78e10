//! The namespaces of a session, and the two ways in: being their first process, and entering them.
//!
//! Whoever makes or enters a pid namespace stays outside itself, and only its children are inside.
//! The keeper is to wait for those, so whoever goes first forks a sibling of itself and ends.
//!
//! *Never*: puts the keeper into a namespace.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, geteuid};

use super::netlink::Socket;
use super::network::{self, Sockets, Way};
use super::{Error, Init};
use crate::jail::child::{Entry, Identity};
use crate::jail::{Call, Users, mounts, mutation};
use crate::sys::{pass, process};

/// `CAP_SETGID` of `linux/capability.h`.
const SETGID: u32 = 6;
/// `CAP_SETUID` of `linux/capability.h`.
const SETUID: u32 = 7;

/// What a founder says when it waits for its maps, and what it is told then.
const MAPS: &[u8; 4] = b"maps";

/// What is made beside a user namespace.
fn spaces() -> CloneFlags {
    let ipc = if mutation::stands("ipc") { CloneFlags::CLONE_NEWIPC } else { CloneFlags::empty() };
    CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID | ipc
}

/// The namespaces, by descriptors that keep them.
#[derive(Debug)]
pub(super) struct Namespaces {
    /// None where the command is in the machine's.
    user: Option<OwnedFd>,
    network: OwnedFd,
    ipc: OwnedFd,
    pid: OwnedFd,
}

/// What is handed over with the sockets where targets are rewritten on their way to them.
const REWRITTEN: &[u8; 4] = b"nat!";
/// What is handed over with them where targets are as they were.
const TRANSPARENT: &[u8; 4] = b"asis";

/// What was made.
pub(super) struct Raised {
    pub(super) namespaces: Namespaces,
    /// The first process, in the keeper's pid namespace.
    pub(super) init: Pid,
    pub(super) sockets: Sockets,
}

/// Makes them, and their network.
pub(super) fn raise(
    identity: &Identity,
    (port, users): (Option<u16>, Users),
    init: &Init<'_>,
) -> Result<Raised, Error> {
    // Declared first, so that it is waited for last: it waits for the lines to end.
    let founder;
    let (mut ours, founders) = pair()?;
    let (handed, inits) = pair()?;
    founder = Collected(
        process::fork(|| {
            let kept = [&[founders.as_raw_fd(), inits.as_raw_fd()], init.keeps].concat();
            let kept = process::keep_only(&kept).map_err(Call::to("close_range"));
            let first = || arrange(port, &inits, init);
            report(kept.and_then(|()| found((identity, users), &founders, first)), &founders)
        })
        .map_err(Call::to("fork"))?,
    );
    drop((founders, inits));
    if users == Users::Own && receive(&mut ours)? == Some(*MAPS) {
        write_maps(founder.0, identity)?;
        ours.write_all(MAPS).map_err(Call::to("write(founder)"))?;
    }
    let init = receive(&mut ours)?.map(|pid| Pid::from_raw(i32::from_ne_bytes(pid)));
    let init = init.ok_or_else(|| Error::Inside(rest(&mut ours)))?;
    take(&handed, users, init)
}

/// Takes what the first process hands over.
fn take(handed: &UnixStream, users: Users, init: Pid) -> Result<Raised, Error> {
    let mut handed = handed;
    let mut told = [0; 4];
    let (_, taken) = pass::receive(handed.as_fd(), &mut told).map_err(Call::to("recvmsg"))?;
    let way = if &told == REWRITTEN { Way::Rewritten } else { Way::Transparent };
    let is_without_v6 = taken.len() == 8;
    let mut taken = taken.into_iter();
    let mut next = || taken.next();
    let mut named = || Some((next()?, next()?, next()?, next()?, next()?, next()?));
    let Some((user, network, ipc, pid, sock_diag, log)) = named() else {
        let mut why = String::new();
        drop(handed.read_to_string(&mut why));
        drop(Collected(init));
        return Err(Error::Inside(why));
    };
    let each = if is_without_v6 { 1 } else { 2 };
    let tcp = taken.by_ref().take(each).map(Into::into).collect();
    let dns = taken.map(Into::into).collect();
    let (sock_diag, log) = (Socket::from_descriptor(sock_diag), Socket::from_descriptor(log));
    let user = (users == Users::Own).then_some(user);
    let namespaces = Namespaces { user, network, ipc, pid };
    Ok(Raised { namespaces, init, sockets: Sockets { tcp, dns, sock_diag, log, way } })
}

/// The founder: makes the namespaces, gets its maps, and forks the first process.
fn found(
    (identity, users): (&Identity, Users),
    line: &UnixStream,
    first: impl FnOnce() -> u8,
) -> Result<(), Call> {
    match users {
        Users::Own => make_with_users(identity, line)?,
        Users::Machine => unshare(spaces())
            .map_err(Call::to("unshare(CLONE_NEWNET|CLONE_NEWIPC|CLONE_NEWPID)"))?,
    }
    let init = process::fork_sibling(first).map_err(Call::to("clone(CLONE_PARENT)"))?;
    let mut line = line;
    line.write_all(&init.as_raw().to_ne_bytes()).map_err(Call::to("write(keeper)"))
}

/// Makes the namespaces in a user namespace of their own.
fn make_with_users(identity: &Identity, mut line: &UnixStream) -> Result<(), Call> {
    // The owner of the user namespace has every right in it. It is the user, so that the proxy,
    // which runs as the same, may look at what is inside; and it has no more rights by it, because
    // no ids are mapped but the user's own.
    become_user(identity)?;
    unshare(CloneFlags::CLONE_NEWUSER | spaces())
        .map_err(Call::to("unshare(CLONE_NEWUSER|CLONE_NEWNET|CLONE_NEWIPC|CLONE_NEWPID)"))?;
    let mut told = [0; 4];
    line.write_all(MAPS)
        .and_then(|()| line.read_exact(&mut told))
        .map_err(Call::to("write(uid_map)"))
}

/// The first process: makes the network, hands it over, and lives its life.
fn arrange(port: Option<u16>, line: &UnixStream, init: &Init<'_>) -> u8 {
    let proved = if init.is_proved { mounts::try_out() } else { Ok(()) };
    let handed =
        proved.and_then(|()| network::arrange(port)).and_then(|sockets| hand_over(&sockets, line));
    match handed {
        Ok(()) => (init.life)(),
        Err(_) => report(handed, line),
    }
}

/// Hands everything over, in the order in which [`take`] takes it.
fn hand_over(sockets: &Sockets, line: &UnixStream) -> Result<(), Call> {
    let open = |name: &str| File::open(format!("/proc/self/ns/{name}"));
    let namespaces = ["user", "net", "ipc", "pid"].map(open);
    let namespaces = namespaces.into_iter().collect::<io::Result<Vec<_>>>();
    let namespaces = namespaces.map_err(Call::to("open(/proc/self/ns)"))?;
    let mut all: Vec<BorrowedFd<'_>> = namespaces.iter().map(|file| file.as_fd()).collect();
    all.extend([sockets.sock_diag.as_fd(), sockets.log.as_fd()]);
    all.extend(sockets.tcp.iter().map(|socket| socket.as_fd()));
    all.extend(sockets.dns.iter().map(|socket| socket.as_fd()));
    let way = if sockets.way == Way::Rewritten { REWRITTEN } else { TRANSPARENT };
    pass::send(line.as_fd(), way, &all).map_err(Call::to("sendmsg"))
}

impl Namespaces {
    /// Forks a process inside, which the caller collects.
    pub(super) fn fork(
        &self,
        identity: &Identity,
        body: impl FnOnce(Entry) -> u8,
    ) -> Result<Pid, Call> {
        let herald;
        let (mut ours, heralds) = UnixStream::pair().map_err(Call::to("socketpair"))?;
        let forked = process::fork(|| {
            let announce = |unix| -> Result<(), Call> {
                let body = || body(Entry::Namespaces { unix, users: self.users() });
                let inside =
                    process::fork_sibling(body).map_err(Call::to("clone(CLONE_PARENT)"))?;
                (&heralds).write_all(&inside.as_raw().to_ne_bytes()).map_err(Call::to("write"))
            };
            report(self.enter(identity).and_then(announce), &heralds)
        });
        herald = Collected(forked.map_err(Call::to("fork"))?);
        drop(heralds);
        let told = receive(&mut ours)?;
        drop(herald);
        told.map(|pid| Pid::from_raw(i32::from_ne_bytes(pid)))
            .ok_or_else(|| Call { call: "setns", source: io::Error::other(rest(&mut ours)) })
    }

    /// Enters them as the user. What unix sockets the network outside has bound can be read only
    /// before.
    fn enter(&self, identity: &Identity) -> Result<Vec<u8>, Call> {
        let unix = fs::read("/proc/net/unix").map_err(Call::to("read(/proc/net/unix)"))?;
        if let Some(user) = &self.user {
            become_user(identity)?;
            setns(user, CloneFlags::CLONE_NEWUSER).map_err(Call::to("setns(CLONE_NEWUSER)"))?;
        }
        // Without one it takes root's rights to go on, and the way in gives them up.
        let spaces = [
            (&self.ipc, CloneFlags::CLONE_NEWIPC, "setns(CLONE_NEWIPC)"),
            (&self.network, CloneFlags::CLONE_NEWNET, "setns(CLONE_NEWNET)"),
            (&self.pid, CloneFlags::CLONE_NEWPID, "setns(CLONE_NEWPID)"),
        ];
        for (space, kind, call) in spaces {
            if kind == CloneFlags::CLONE_NEWIPC && !mutation::stands("ipc") {
                continue;
            }
            setns(space, kind).map_err(Call::to(call))?;
        }
        Ok(unix)
    }

    /// In whose user namespace the command is.
    pub(super) fn users(&self) -> Users {
        if self.user.is_some() { Users::Own } else { Users::Machine }
    }

    /// The number of the network namespace, by which members know each other.
    pub(super) fn network_number(&self) -> io::Result<u64> {
        Ok(File::from(self.network.try_clone()?).metadata()?.ino())
    }
}

/// Becomes the user, where root was lent by sudo.
pub(super) fn become_user(identity: &Identity) -> Result<(), Call> {
    if geteuid().as_raw() == identity.uid { Ok(()) } else { identity.take_ids() }
}

/// Maps ids to themselves: root's all, so that files keep their owners; a user's own and no other.
pub(super) fn write_maps(founder: Pid, identity: &Identity) -> Result<(), Call> {
    let write = |name: &str, text: &str| fs::write(format!("/proc/{founder}/{name}"), text);
    let is_privileged = process::has_capability(SETUID) && process::has_capability(SETGID);
    let (users, groups) = if identity.is_root() && is_privileged {
        let every = "0 0 4294967295\n".to_owned();
        (every.clone(), every)
    } else {
        let groups = groups(identity, is_privileged);
        let lines = groups.iter().map(|gid| format!("{gid} {gid} 1\n"));
        (format!("{0} {0} 1\n", identity.uid), lines.collect())
    };
    if !is_privileged {
        write("setgroups", "deny").map_err(Call::to("write(setgroups)"))?;
    }
    write("uid_map", &users).map_err(Call::to("write(uid_map)"))?;
    write("gid_map", &groups).map_err(Call::to("write(gid_map)"))
}

/// The groups that may be mapped: without privilege the own one only.
fn groups(identity: &Identity, is_privileged: bool) -> Vec<u32> {
    /// What the kernel takes, less what one might add.
    const MOST: usize = 300;
    let mut groups = vec![identity.gid];
    if is_privileged {
        groups.extend(&identity.groups);
    }
    groups.sort_unstable();
    groups.dedup();
    groups.truncate(MOST);
    groups
}

/// A process that ends by itself soon, and is collected then.
struct Collected(Pid);

impl Drop for Collected {
    fn drop(&mut self) {
        while waitpid(self.0, None) == Err(Errno::EINTR) {}
    }
}

fn pair() -> Result<(UnixStream, UnixStream), Call> {
    UnixStream::pair().map_err(Call::to("socketpair"))
}

/// Four bytes from the founder; none if something else, or nothing, comes.
fn receive(line: &mut UnixStream) -> Result<Option<[u8; 4]>, Call> {
    let mut bytes = [0; 4];
    match line.read_exact(&mut bytes) {
        Ok(()) if &bytes == FAILED => Ok(None),
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(Call::to("read(founder)")(error)),
    }
}

/// What precedes a line about a failure.
const FAILED: &[u8; 4] = b"why:";

/// The line about a failure.
fn rest(line: &mut UnixStream) -> String {
    let mut why = String::new();
    drop(line.read_to_string(&mut why));
    why
}

/// The exit status of a forked process, whose failure is told first.
fn report(done: Result<(), Call>, line: &UnixStream) -> u8 {
    let Err(error) = done else { return 0 };
    let mut line = line;
    drop(line.write_all(FAILED).and_then(|()| line.write_all(error.to_string().as_bytes())));
    125
}
