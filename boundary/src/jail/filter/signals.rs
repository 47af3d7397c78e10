//! What is asked where nobody else keeps signals in: whatever sends one, and whatever has the kernel send
//! one when a file is ready.
//!
//! *Standing*: part of the filter of `landjail` where Landlock has no scope for signals (before Linux 6.12).
//! *Never*: in it elsewhere.

use libc::{c_long, sock_filter};

use super::{argument_offset, ask as asked, jump, load, refuse, when_call};

/// Calls that signal whomever they name.
pub(in crate::jail) const SIGNALLING: &[c_long] = &[
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
];

/// `F_SETSIG` and `F_SETOWN_EX` of asm-generic/fcntl.h.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

/// What is about a signal there, of what a flag or an argument says.
const O_ASYNC: u32 = libc::O_ASYNC.cast_unsigned();
const SIGIO: u32 = libc::SIGIO.cast_unsigned();

/// `FIOASYNC`, and the two spellings of `F_SETOWN` that lie behind a pointer (asm-generic/ioctls.h and
/// asm-generic/sockios.h).
const FIOASYNC: u32 = 0x5452;
const FIOSETOWN: u32 = 0x8901;
const SIOCSPGRP: u32 = 0x8902;

/// Asks about all of that. What says behind a pointer whom the kernel is to signal is refused.
pub(super) fn ask(program: &mut Vec<sock_filter>) {
    for &call in SIGNALLING {
        when_call(program, call, &[asked()]);
    }
    let refused = refuse(libc::EPERM);
    let mut ioctl = Vec::new();
    for (command, answer) in [(FIOASYNC, asked()), (FIOSETOWN, refused), (SIOCSPGRP, refused)] {
        ioctl.extend(when_command(command, &[answer]));
    }
    when_call(program, libc::SYS_ioctl, &ioctl);
    let argument = load(argument_offset(2));
    // A terminal's is for its foreground, in which boundary is: that ignores SIGIO.
    let other = [argument, jump(libc::BPF_JEQ, 0, 2, 0), jump(libc::BPF_JEQ, SIGIO, 1, 0), refused];
    let asynchronous = [argument, jump(libc::BPF_JSET, O_ASYNC, 0, 1), asked()];
    let mut fcntl = Vec::new();
    for (command, body) in [
        (libc::F_SETOWN, &[asked()][..]),
        (F_SETOWN_EX, &[refused]),
        (F_SETSIG, &other),
        (libc::F_SETFL, &asynchronous),
    ] {
        fcntl.extend(when_command(command.cast_unsigned(), body));
    }
    when_call(program, libc::SYS_fcntl, &fcntl);
}

/// Runs `body` for one command, the second argument of a call.
fn when_command(command: u32, body: &[sock_filter]) -> Vec<sock_filter> {
    let over = super::offset_of(body.len());
    let mut code = vec![load(argument_offset(1)), jump(libc::BPF_JEQ, command, 0, over)];
    code.extend_from_slice(body);
    code
}
