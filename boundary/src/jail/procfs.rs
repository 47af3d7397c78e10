//! Files of proc(5), read in as few calls as it takes.
//!
//! They do not say how long they are, and whoever believes them reads in small pieces, each of which is
//! a call. Some are read for every connection. A process names itself with any bytes, and may be cut in
//! the middle of a character by the kernel: whoever is named so is looked at like anybody else.
//!
//! *Standing*: what finds out whose a connection is, and what descends from whom, reads with this.
//! *Never*: keeps a file open.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// How long such a text usually is at the most.
const LENGTH: usize = 4096;

/// What a file says; what is no text in it is replaced.
pub(super) fn text(path: impl AsRef<Path>) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(LENGTH);
    // The file itself would ask for its length first.
    File::open(path)?.take(u64::MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes);
    Ok(text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// A path as it is, from mountinfo's spelling: space, tab, newline and backslash are octal there.
pub(super) fn unescaped(path: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.first_chunk::<3>().filter(|_| byte == b'\\');
        let value = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        let value = value.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(value.unwrap_or(byte));
        rest = if value.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    OsString::from_vec(bytes).into()
}

/// Whether an error says that there is no such process.
pub(super) fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::ENOENT, Errno::ESRCH].map(|errno| errno as i32);
    error.raw_os_error().is_some_and(|number| gone.contains(&number))
}

/// Whether an error says that procfs shows a process to its own user alone (`hidepid=1`).
fn is_hidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// What the `stat` of a process or a thread says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) number: u32,
    /// The name, with spaces and parentheses that it may hold.
    pub(super) comm: String,
    /// Whether it has ended and waits to be collected. One whose first thread alone has ended lives.
    pub(super) is_over: bool,
    pub(super) parent: u32,
    pub(super) group: u32,
    pub(super) session: u32,
    /// When it started, in clock ticks since the machine did. With the number it is nobody else's: the
    /// kernel gives away all others before it gives that again.
    pub(super) started: u64,
}

impl Stat {
    /// That of a process or a thread; none if there is none of this number.
    pub(super) fn of(process: u32) -> io::Result<Option<Self>> {
        match text(format!("/proc/{process}/stat")) {
            Ok(stat) => Ok(Self::parse(&stat)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads it from the text.
    pub(super) fn parse(stat: &str) -> Option<Self> {
        let (head, fields) = stat.rsplit_once(") ")?;
        let (number, comm) = head.split_once(" (")?;
        let mut fields = fields.split(' ');
        let has_ended = ["Z", "X"].contains(&fields.next()?);
        // What has no group is told with a number below zero.
        let mut next = || fields.next()?.parse::<i64>().ok();
        let [parent, group, session] =
            [next()?, next()?, next()?].map(|number| u32::try_from(number).unwrap_or_default());
        let threads: u64 = fields.nth(13)?.parse().ok()?;
        Some(Self {
            number: number.parse().ok()?,
            comm: comm.to_owned(),
            is_over: has_ended && threads <= 1,
            parent,
            group,
            session,
            started: fields.nth(1)?.parse().ok()?,
        })
    }
}

/// The number of the process that a descriptor of a process is a handle of, below zero when that was
/// collected; none if it is no handle.
pub(super) fn held(by: &str, descriptor: RawFd) -> io::Result<Option<i32>> {
    let about = text(format!("/proc/{by}/fdinfo/{descriptor}"))?;
    let number = about.lines().find_map(|line| line.strip_prefix("Pid:"));
    Ok(number.and_then(|number| number.trim().parse().ok()))
}

/// Every process that can be seen, by its number. An error where some may be missing that can.
pub(super) fn everybody() -> io::Result<HashMap<u32, Stat>> {
    let mut everybody = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(number) = number else { continue };
        match Stat::of(number) {
            Err(error) if !is_hidden(&error) => return Err(error),
            // It has ended, or is nobody's business.
            stat => drop(stat.ok().flatten().map(|stat| everybody.insert(number, stat))),
        }
    }
    Ok(everybody)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_in_a_path_are_read_back() {
        assert_eq!(unescaped(br"/a\040b\134c"), PathBuf::from("/a b\\c"));
        assert_eq!(unescaped(br"/plain\x"), PathBuf::from("/plain\\x"));
    }

    #[test]
    fn a_file_is_read_whole_however_long_it_is() {
        for path in ["/proc/self/limits", "/proc/filesystems"] {
            assert_eq!(text(path).unwrap(), fs::read_to_string(path).unwrap(), "{path}");
        }
        let long = std::env::temp_dir().join(format!("boundary-long-{}", uuid::Uuid::new_v4()));
        let content = "x".repeat(LENGTH * 5 + 1);
        fs::write(&long, &content).unwrap();
        let read = text(&long).unwrap();
        fs::remove_file(&long).unwrap();
        assert_eq!(read, content);
    }

    #[test]
    fn what_is_not_there_is_an_error_and_no_name_is() {
        assert_eq!(text("/proc/0/stat").unwrap_err().kind(), io::ErrorKind::NotFound);
        let odd = std::env::temp_dir().join(format!("boundary-odd-{}", uuid::Uuid::new_v4()));
        fs::write(&odd, b"7 (\xff\xfeodd) S 1").unwrap();
        let read = text(&odd);
        fs::remove_file(&odd).unwrap();
        assert_eq!(read.unwrap(), "7 (\u{fffd}\u{fffd}odd) S 1");
    }

    #[test]
    fn a_place_is_read_behind_any_name() {
        let rest = "-1 4194560 1 0 0 0 0 0 0 0 20 0";
        let stat = |fields: &str| Stat::parse(&format!("12 (a) b) ({fields} 0 4200 1 1"));
        let expected = Stat {
            number: 12,
            comm: "a) b) (".to_owned(),
            is_over: false,
            parent: 7,
            group: 5,
            session: 4,
            started: 4200,
        };
        let of = |fields: &str| stat(&format!(") {fields}"));
        assert_eq!(of(&format!("S 7 5 4 0 {rest} 1")), Some(expected.clone()));
        let over = Stat { is_over: true, ..expected.clone() };
        assert_eq!(of(&format!("Z 7 5 4 0 {rest} 1")), Some(over));
        let headless = of(&format!("Z 7 5 4 0 {rest} 2"));
        assert_eq!(headless, Some(expected.clone()), "its first thread alone has ended");
        let none = Stat { is_over: true, parent: 0, group: 0, session: 0, ..expected };
        assert_eq!(of(&format!("X 0 -1 -1 0 {rest} 0")), Some(none));
        assert_eq!(of("S 7 5 4"), None, "cut off");
        assert_eq!(Stat::parse("12"), None);
    }

    #[test]
    fn a_child_is_among_everybody_until_it_is_collected() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let found = everybody().unwrap().remove(&child.id()).unwrap();
        assert_eq!((found.number, found.parent), (child.id(), std::process::id()));
        child.wait().unwrap();
        assert!(!everybody().unwrap().contains_key(&child.id()));
        assert_eq!(Stat::of(child.id()).unwrap(), None);
    }

    #[test]
    fn a_process_that_is_hidden_is_no_error_and_one_that_cannot_be_read_is() {
        let error = |errno: Errno| io::Error::from(errno);
        assert!(is_hidden(&error(Errno::EPERM)) && is_hidden(&error(Errno::EACCES)));
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM] {
            assert!(!is_hidden(&error(errno)) && !is_gone(&error(errno)), "{errno}");
        }
    }
}
