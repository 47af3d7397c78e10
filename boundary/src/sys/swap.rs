//! Two names of one folder that change places at once.

#![expect(unsafe_code, reason = "a call that not every libc has a function for")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::libc::{SYS_renameat2, syscall};

/// `RENAME_EXCHANGE` of `linux/fs.h`.
const EXCHANGE: u32 = 2;

/// Has each of two names in a folder stand for what the other stood for. Both are always there.
pub fn names(folder: BorrowedFd<'_>, one: &CStr, other: &CStr) -> io::Result<()> {
    let folder = folder.as_raw_fd();
    // SAFETY: both names end in a nul and outlive the call, which writes nowhere.
    let outcome =
        unsafe { syscall(SYS_renameat2, folder, one.as_ptr(), folder, other.as_ptr(), EXCHANGE) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn each_name_stands_for_the_other_file() {
        let path = std::env::temp_dir().join(format!("boundary-swap-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a"), "one").unwrap();
        fs::write(path.join("b"), "two").unwrap();
        let folder = File::open(&path).unwrap();
        names(folder.as_fd(), c"a", c"b").unwrap();
        let texts = ["a", "b"].map(|name| fs::read_to_string(path.join(name)).unwrap());
        assert_eq!(texts, ["two", "one"]);
        assert!(names(folder.as_fd(), c"a", c"none").is_err());
        fs::remove_dir_all(&path).unwrap();
    }
}
