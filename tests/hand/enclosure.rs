//! The way into the jail where no wall of the kernel half stands: only the canary can notice.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use boundary::jail::certificates::Bundle;
use boundary::jail::child::{Enclosure, Entry, Identity, enclose, restrict};
use boundary::jail::usher::Seat;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

/// `hand enclose BUNDLE OVERLAY`: has another go in, and ends what that leaves behind: an usher waits for
/// the end of a session, and here there is none.
pub(crate) fn try_it() -> anyhow::Result<()> {
    prctl::set_child_subreaper(true)?;
    let arguments = std::env::args().skip(2);
    Command::new(std::env::current_exe()?).arg("inside").args(arguments).status()?;
    let own = std::process::id();
    for left in children(own)? {
        kill(left, Signal::SIGKILL)?;
        waitpid(left, None)?;
    }
    Ok(())
}

/// The processes whose parent is this one.
fn children(parent: u32) -> anyhow::Result<Vec<Pid>> {
    let line = format!("PPid:\t{parent}");
    let pids = fs::read_dir("/proc")?.flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        status.lines().any(|it| it == line).then(|| Pid::from_raw(pid))
    });
    Ok(pids.collect())
}

/// `hand inside BUNDLE OVERLAY`: goes in as a user, and says `inside` or why not.
pub(crate) fn go_in() -> anyhow::Result<()> {
    let path = |place| std::env::args().nth(place).map(PathBuf::from).context("two paths");
    let bundle = Bundle { file: path(2)?, overlay: path(3)? };
    let identity = Identity { uid: 4_242, gid: 4_242, groups: vec![4_242] };
    // Its cgroup is anywhere, and nobody listens to it.
    let (alarm, _heard) = UnixStream::pair()?;
    let (reports, _read) = UnixDatagram::pair()?;
    let (alarm, reports) = (alarm.as_fd(), reports.as_fd());
    let door = Path::new("/run/door");
    let (cgroup, house, outside, stand) = (None, None, None, None);
    let usher = Seat {
        cgroup,
        alarm,
        reports,
        house,
        outside,
        door,
        open: &[],
        stands_alone: false,
        stand,
    };
    let entry = &Entry::Cgroup { unix: true };
    let enclosure = Enclosure { identity: &identity, bundle: &bundle, guarded: &[], usher, entry };
    match enclose(&enclosure, || Ok(())) {
        Ok(()) => println!("inside"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}

/// `hand restrict PATH…`: goes into the command's Landlock domain alone, and says of each unix socket whether
/// it gets there, and of one of its own.
pub(crate) fn reach() -> anyhow::Result<()> {
    prctl::set_no_new_privs()?;
    // Where there is no Landlock, nothing is restricted.
    let _restricted = restrict();
    let own = std::env::temp_dir().join(format!("hand-{}", std::process::id()));
    let _listener = UnixListener::bind(&own)?;
    for path in std::env::args().skip(2).map(PathBuf::from).chain([own.clone()]) {
        let reached = UnixStream::connect(path).map_err(|error| error.raw_os_error());
        match reached {
            Ok(_) => println!("reached"),
            Err(number) => println!("{}", Errno::from_raw(number.unwrap_or_default())),
        }
    }
    Ok(fs::remove_file(own)?)
}
