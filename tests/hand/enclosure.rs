//! The way into the jail where no wall of the kernel half stands: only the canary can notice.

use std::fs::OpenOptions;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use boundary::jail::certificates::Bundle;
use boundary::jail::child::{Enclosure, Entry, Identity, enclose};
use boundary::jail::usher::Seat;

/// `hand enclose BUNDLE OVERLAY`: goes in as a user, and says `inside` or why not.
pub(crate) fn try_it() -> anyhow::Result<()> {
    let path = |place| std::env::args().nth(place).map(PathBuf::from).context("two paths");
    let bundle = Bundle { file: path(2)?, overlay: path(3)? };
    let identity = Identity { uid: 4_242, gid: 4_242, groups: vec![4_242] };
    // Its cgroup is anywhere, and nobody listens to it.
    let entrance = OpenOptions::new().write(true).open("/dev/null")?;
    let (alarm, _heard) = UnixStream::pair()?;
    let (reports, _read) = UnixDatagram::pair()?;
    let (entrance, alarm) = (entrance.as_fd(), alarm.as_fd());
    let reports = reports.as_fd();
    let (entrance, door) = (Some(entrance), Path::new("/run/door"));
    let (house, outside, stand) = (None, None, None);
    let usher = Seat { entrance, alarm, reports, house, outside, door, open: &[], stand };
    let entry = &Entry::Cgroup;
    let enclosure = Enclosure { identity: &identity, bundle: &bundle, guarded: &[], usher, entry };
    match enclose(&enclosure, || Ok(())) {
        Ok(()) => println!("inside"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}
