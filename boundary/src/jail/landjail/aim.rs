//! Whom a call that signals names.
//!
//! *Standing*: read from arguments that are the caller's, before [`signals`](super::signals) looks at
//! anybody. *Never*: says whether that may be.

use nix::errno::Errno;
use nix::libc;

/// Whom a call signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// The thread that calls, or its process.
    Oneself,
    /// A process, by the number of one of its threads.
    Process(u32),
    /// A thread, of this process if that is said.
    Thread(Option<u32>, u32),
    /// A process group; none is the caller's own.
    Group(Option<u32>),
    /// Everybody but the caller.
    Everybody,
    /// Whom a descriptor of the caller is a handle of.
    Handle(i32),
}

impl Aim {
    /// Whom a call of a thread aims at, by its first two arguments.
    pub(super) fn of(call: i64, [first, second]: [i32; 2], caller: u32) -> nix::Result<Self> {
        let number = |number: i32| u32::try_from(number).ok().filter(|number| *number > 0);
        let aim = match (call, number(first), number(second)) {
            (libc::SYS_pidfd_send_signal, ..) => Self::Handle(first),
            (libc::SYS_tkill, Some(thread), _) => Self::Thread(None, thread),
            (libc::SYS_tgkill | libc::SYS_rt_tgsigqueueinfo, Some(process), Some(thread)) => {
                Self::Thread(Some(process), thread)
            }
            (libc::SYS_kill | libc::SYS_rt_sigqueueinfo, Some(process), _) => {
                Self::Process(process)
            }
            (libc::SYS_kill, ..) => match first {
                0 => Self::Group(None),
                -1 => Self::Everybody,
                i32::MIN => return Err(Errno::ESRCH),
                group => Self::Group(Some(group.unsigned_abs())),
            },
            (libc::SYS_rt_sigqueueinfo, ..) => return Err(Errno::ESRCH),
            _ => return Err(Errno::EINVAL),
        };
        // Its number is its own as long as it waits. What goes with it, the kernel holds against it.
        let is_own = match aim {
            Self::Process(process) => process == caller,
            Self::Thread(process, thread) => thread == caller || process == Some(caller),
            Self::Group(_) | Self::Everybody | Self::Handle(_) | Self::Oneself => false,
        };
        Ok(if is_own { Self::Oneself } else { aim })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILL: i64 = libc::SYS_kill;

    #[test]
    fn whom_a_call_aims_at_is_whom_the_kernel_would() {
        let of = |call, arguments| Aim::of(call, arguments, 40);
        let tgkill = libc::SYS_tgkill;
        for (call, arguments, expected) in [
            (KILL, [50, 9], Ok(Aim::Process(50))),
            (KILL, [40, 9], Ok(Aim::Oneself)),
            (KILL, [0, 9], Ok(Aim::Group(None))),
            (KILL, [-1, 9], Ok(Aim::Everybody)),
            (KILL, [-50, 9], Ok(Aim::Group(Some(50)))),
            (KILL, [i32::MIN, 9], Err(Errno::ESRCH)),
            (libc::SYS_tkill, [50, 9], Ok(Aim::Thread(None, 50))),
            (libc::SYS_tkill, [40, 9], Ok(Aim::Oneself)),
            (libc::SYS_tkill, [0, 9], Err(Errno::EINVAL)),
            (tgkill, [50, 51], Ok(Aim::Thread(Some(50), 51))),
            (tgkill, [40, 51], Ok(Aim::Oneself)),
            (tgkill, [50, 40], Ok(Aim::Oneself)),
            (tgkill, [50, 0], Err(Errno::EINVAL)),
            (tgkill, [-50, 51], Err(Errno::EINVAL)),
            (libc::SYS_rt_sigqueueinfo, [50, 9], Ok(Aim::Process(50))),
            (libc::SYS_rt_sigqueueinfo, [-1, 9], Err(Errno::ESRCH)),
            (libc::SYS_rt_tgsigqueueinfo, [50, 51], Ok(Aim::Thread(Some(50), 51))),
            (libc::SYS_pidfd_send_signal, [3, 9], Ok(Aim::Handle(3))),
        ] {
            assert_eq!(of(call, arguments), expected, "{call} {arguments:?}");
        }
    }
}
