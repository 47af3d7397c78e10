//! The device files that a session may open: what every program expects to find, and no way out.
//!
//! A list of what is allowed, because the dangerous ones are many and new ones appear (tun, vsock,
//! kvm, fuse, the kernel's log, disks, serial lines, injected input).

/// The upper bits of an access are what is done; the lower are the kind of device.
const KIND: u32 = 0xffff;

/// The kind of a character device.
#[doc(alias = "BPF_DEVCG_DEV_CHAR")]
const CHAR: u32 = 2;

/// Whether a program inside may open the device, given the hook's `access_type` and numbers.
///
/// Terminals are allowed by kind (`tty`, `ptmx`, any pseudo-terminal); the console and serial
/// lines are not, though a descriptor that the command inherited keeps working.
#[inline(always)]
pub const fn is_allowed(access: u32, major: u32, minor: u32) -> bool {
    if access & KIND != CHAR {
        return false;
    }
    match major {
        // null, zero, full, random, urandom; not mem, port, kmsg.
        1 => minor == 3 || minor == 5 || (minor >= 7 && minor <= 9),
        // tty, ptmx; not console.
        5 => minor == 0 || minor == 2,
        // Pseudo-terminals.
        136..=143 => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reading and writing, as the kernel encodes it.
    const OPEN: u32 = 6 << 16;

    #[test]
    fn the_usual_ones_open() {
        for (major, minor) in
            [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 0), (143, 255)]
        {
            assert!(is_allowed(OPEN | CHAR, major, minor), "{major}:{minor}");
        }
    }

    #[test]
    fn the_dangerous_ones_do_not() {
        for (major, minor) in [
            (1, 1),    // mem
            (1, 4),    // port
            (1, 11),   // kmsg
            (5, 1),    // console
            (4, 64),   // ttyS0
            (10, 200), // net/tun
            (10, 229), // fuse
            (10, 232), // kvm
            (10, 241), // vhost-vsock
            (10, 223), // uinput
            (144, 0),
            (135, 0),
        ] {
            assert!(!is_allowed(OPEN | CHAR, major, minor), "{major}:{minor}");
        }
    }

    #[test]
    fn no_block_device_opens_whatever_its_number() {
        for (major, minor) in [(1, 3), (8, 0), (136, 0)] {
            assert!(!is_allowed(OPEN | 1, major, minor), "{major}:{minor}");
        }
    }
}
