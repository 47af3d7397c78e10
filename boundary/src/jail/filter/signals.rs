//! What is refused where Landlock has no scope for signals (before Linux 6.12): to choose which one the
//! kernel sends when a file is ready. And what is asked: in a process namespace, what would end boundary in
//! the caller's group; where there is none, whatever sends one, and whatever has the kernel send one.
//!
//! *Standing*: part of the filter of every jail there. *Never*: in it where Landlock keeps signals in.

use libc::{c_long, sock_filter};

use super::{argument_offset, ask as asked, jump, load, offset_of, refuse, when_call};

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

/// Refuses to choose the signal that the kernel sends when a file is ready, but for the usual one.
///
/// A terminal's is for its foreground, whatever numbers the command has: boundary is in there. It ignores
/// `SIGIO`, and nobody can ignore `SIGKILL`.
pub(super) fn refuse_choice(program: &mut Vec<sock_filter>) {
    let other = [
        load(argument_offset(2)),
        jump(libc::BPF_JEQ, 0, 2, 0),
        jump(libc::BPF_JEQ, SIGIO, 1, 0),
        refuse(libc::EPERM),
    ];
    when_call(program, libc::SYS_fcntl, &when_command(F_SETSIG.cast_unsigned(), &other));
}

/// What ends no process of boundary in the caller's group: it passes that on, ignores it, or stops and goes
/// on with the job that it is of.
const BORNE: [i32; 16] = [
    0,
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
    libc::SIGIO,
];

/// Asks about every other signal to the caller's own group, which may be boundary's: the kernel signals all
/// of a group, in whatever namespace they are.
pub(super) fn ask_about_group(program: &mut Vec<sock_filter>) {
    let mut body = vec![
        load(argument_offset(0)),
        jump(libc::BPF_JEQ, 0, 0, offset_of(BORNE.len() + 2)),
        load(argument_offset(1)),
    ];
    let tests = BORNE.iter().enumerate();
    body.extend(tests.map(|(place, signal)| {
        jump(libc::BPF_JEQ, signal.cast_unsigned(), offset_of(BORNE.len() - place), 0)
    }));
    body.push(asked());
    when_call(program, libc::SYS_kill, &body);
}

/// Asks about whatever sends a signal. What says behind a pointer whom the kernel is to signal is refused.
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
    let asynchronous = [load(argument_offset(2)), jump(libc::BPF_JSET, O_ASYNC, 0, 1), asked()];
    let mut fcntl = Vec::new();
    for (command, body) in [
        (libc::F_SETOWN, &[asked()][..]),
        (F_SETOWN_EX, &[refused]),
        (libc::F_SETFL, &asynchronous),
    ] {
        fcntl.extend(when_command(command.cast_unsigned(), body));
    }
    when_call(program, libc::SYS_fcntl, &fcntl);
}

/// Runs `body` for one command, the second argument of a call.
fn when_command(command: u32, body: &[sock_filter]) -> Vec<sock_filter> {
    let over = offset_of(body.len());
    let mut code = vec![load(argument_offset(1)), jump(libc::BPF_JEQ, command, 0, over)];
    code.extend_from_slice(body);
    code
}

#[cfg(test)]
mod tests {
    use super::super::{ARCHITECTURE, Beside, Signals, program};
    use super::*;

    /// What a filter answers to a call with these arguments.
    fn answer(program: &[sock_filter], call: c_long, arguments: [u64; 3]) -> u32 {
        let mut data = vec![u32::try_from(call).unwrap(), ARCHITECTURE, 0, 0];
        for argument in arguments.into_iter().chain([0; 3]) {
            let half = |shift: u32| u32::try_from(argument >> shift & u64::from(u32::MAX)).unwrap();
            data.extend([half(0), half(32)]);
        }
        let (mut place, mut value) = (0, 0);
        loop {
            let step = program[place];
            let jump = |holds| usize::from(if holds { step.jt } else { step.jf });
            place += 1;
            match u32::from(step.code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    value = data[step.k as usize / 4];
                }
                code if code == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K => value &= step.k,
                code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => {
                    place += jump(value == step.k);
                }
                code if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => {
                    place += jump(value >= step.k);
                }
                code if code == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K => {
                    place += jump(value & step.k != 0);
                }
                code if code == libc::BPF_RET | libc::BPF_K => return step.k,
                code => panic!("no instruction of ours: {code:#x}"),
            }
        }
    }

    /// What a filter answers to who chooses a signal for a file.
    fn chosen(program: &[sock_filter], signal: i32) -> u32 {
        answer(program, libc::SYS_fcntl, [3, 10, u64::from(signal.cast_unsigned())])
    }

    #[test]
    fn no_signal_is_chosen_for_a_file_where_landlock_keeps_none_in() {
        let allowed = libc::SECCOMP_RET_ALLOW;
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
        for (beside, signals) in [
            (Beside::Hooks { unix: true }, Signals::Namespace),
            (Beside::Nobody, Signals::Namespace),
            (Beside::Usher, Signals::Usher),
        ] {
            let scoped = program(beside, Signals::Landlock);
            assert_eq!(chosen(&scoped, libc::SIGKILL), allowed);
            let program = program(beside, signals);
            let mut usual = (-1..=65).filter(|signal| chosen(&program, *signal) == allowed);
            assert_eq!([usual.next(), usual.next()], [Some(0), Some(libc::SIGIO)], "{beside:?}");
            assert_eq!((usual.next(), chosen(&program, libc::SIGKILL)), (None, refused));
            // What the kernel takes for the same command, another command and another call.
            assert_eq!(answer(&program, libc::SYS_fcntl, [3, 1 << 32 | 0xa, 9]), refused);
            assert_eq!(answer(&program, libc::SYS_fcntl, [3, 11, 9]), allowed);
            assert_eq!(answer(&program, libc::SYS_dup3, [3, 10, 9]), allowed);
        }
    }

    #[test]
    fn what_would_end_boundary_in_ones_own_group_is_asked_about() {
        let (allowed, asked) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_USER_NOTIF);
        let program = program(Beside::Hooks { unix: true }, Signals::Namespace);
        let kill = |process: i32, signal: i32| {
            let arguments = [process, signal, 0].map(|it| u64::from(it.cast_unsigned()));
            answer(&program, libc::SYS_kill, arguments)
        };
        for signal in 0..=64 {
            let expected = if BORNE.contains(&signal) { allowed } else { asked };
            assert_eq!(kill(0, signal), expected, "{signal}");
            for other in [1, 40, -1, -40] {
                assert_eq!(kill(other, signal), allowed, "{other} {signal}");
            }
        }
        assert_eq!(kill(0, libc::SIGKILL), asked);
    }

    #[test]
    fn whatever_signals_is_asked_about_where_there_is_no_namespace() {
        let (allowed, asked) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_USER_NOTIF);
        let asynchronous = libc::O_ASYNC | libc::O_NONBLOCK;
        let calls = [
            (libc::SYS_kill, [40, 9, 0]),
            (libc::SYS_fcntl, [3, 8, 40]),
            (libc::SYS_fcntl, [3, 4, u64::from(asynchronous.cast_unsigned())]),
            (libc::SYS_ioctl, [3, u64::from(FIOASYNC), 1]),
        ];
        for (signals, expected) in
            [(Signals::Landlock, allowed), (Signals::Namespace, allowed), (Signals::Usher, asked)]
        {
            let program = program(Beside::Usher, signals);
            for (call, arguments) in calls {
                let is = answer(&program, call, arguments);
                assert_eq!(is, expected, "{signals:?} {call} {arguments:?}");
            }
            let without = [3, 4, u64::from(libc::O_NONBLOCK.cast_unsigned())];
            assert_eq!(answer(&program, libc::SYS_fcntl, without), allowed, "{signals:?}");
        }
    }
}
