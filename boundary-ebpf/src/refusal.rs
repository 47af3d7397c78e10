//! Reports what was refused, and by whom it was tried. Reporting never changes the answer: what
//! does not fit into the ring is counted.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_current_comm;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_boot_ns};
use boundary_common::flow::{Refusal, Task};

use crate::maps::{EVENTS, LOST, MARKS};

/// Hands a refusal to the user half.
#[inline(always)]
pub(crate) fn report(refusal: &Refusal) {
    match EVENTS.reserve::<Refusal>(0) {
        Some(mut entry) => {
            entry.write(*refusal);
            entry.submit(0);
        }
        None => {
            if let Some(lost) = LOST.get_ptr_mut(0) {
                // SAFETY: The map has the entry, and one for each processor.
                unsafe { *lost += 1 };
            }
        }
    }
}

/// Who calls. For hooks that run in the caller's own context.
#[inline(always)]
pub(crate) fn current() -> Task {
    let mut comm = [0; 16];
    // SAFETY: The buffer is as long as it says. A failure leaves it empty, which says as much.
    unsafe { bpf_get_current_comm(comm.as_mut_ptr().cast(), 16) };
    Task {
        tgid: (bpf_get_current_pid_tgid() >> 32) as u32,
        uid: bpf_get_current_uid_gid() as u32,
        comm,
    }
}

/// Nanoseconds since the machine started, suspension included: what `/proc/PID/stat` counts from.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: The helper takes nothing.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Who made a socket.
///
/// # Safety
///
/// `sk` is a full socket.
#[inline(always)]
pub(crate) unsafe fn maker(sk: *mut c_void) -> Task {
    // SAFETY: The caller's promise.
    unsafe { MARKS.of(sk) }.map_or_else(Task::default, |mark| mark.task)
}
