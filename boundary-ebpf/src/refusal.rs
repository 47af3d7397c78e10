//! Reports what was refused, and by whom it was tried. Reporting never changes the answer: what
//! does not fit into the ring is counted.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_current_comm;
use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
    bpf_ktime_get_boot_ns,
};
use boundary_common::flow::{Endpoint, Refusal, Task};
use boundary_common::steer::{Socket, Why};

use crate::context::write;
use crate::maps::{EVENTS, LOST, MARKS};

/// Who is named in a report.
pub(crate) enum Author {
    /// Who calls, for hooks that run in the caller's own context.
    Caller,
    /// Who made the socket, for hooks that run in any context, or on older kernels do not tell.
    /// Nobody if it is null.
    Maker(*mut c_void),
}

/// What was refused.
pub(crate) struct What {
    pub(crate) why: Why,
    pub(crate) family: u16,
    pub(crate) socket: Socket,
    pub(crate) option: u32,
    pub(crate) target: Endpoint,
}

/// Hands a refusal to the user half.
#[inline(always)]
pub(crate) fn report(what: &What, author: Author) {
    let Some(mut entry) = EVENTS.reserve::<Refusal>(0) else { return lose() };
    let raw = entry.as_mut_ptr();
    write!(raw, now(), time);
    write!(raw, what.why as u16, why);
    write!(raw, what.family, family);
    write!(raw, what.socket.kind as u16, kind);
    write!(raw, what.socket.protocol as u16, protocol);
    write!(raw, what.option, option);
    write!(raw, what.target.address[0], target.address[0]);
    write!(raw, what.target.address[1], target.address[1]);
    write!(raw, what.target.address[2], target.address[2]);
    write!(raw, what.target.address[3], target.address[3]);
    write!(raw, what.target.port, target.port);
    write!(raw, what.target.family, target.family);
    // SAFETY: The entry is as large as a refusal.
    let task = unsafe { &raw mut (*raw).task };
    match author {
        Author::Caller => note_caller(task),
        Author::Maker(sk) => note_maker(task, sk),
    }
    entry.submit(0);
}

/// Counts a refusal that does not fit.
#[inline(always)]
fn lose() {
    if let Some(lost) = LOST.get_ptr_mut(0) {
        // SAFETY: The map has the entry, and one for each processor.
        unsafe { *lost += 1 };
    }
}

/// Writes down who calls.
#[inline(always)]
pub(crate) fn note_caller(task: *mut Task) {
    // SAFETY: The callers give a whole task.
    let comm = unsafe { &raw mut (*task).comm };
    // SAFETY: The buffer is as long as it says. A failure leaves it empty, which says as much.
    unsafe { bpf_get_current_comm(comm.cast(), 16) };
    // SAFETY: The helper takes nothing.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    write!(task, cgroup, cgroup);
    write!(task, (bpf_get_current_pid_tgid() >> 32) as u32, tgid);
    write!(task, bpf_get_current_uid_gid() as u32, uid);
}

/// Writes down who made a socket, or zeros.
#[inline(always)]
fn note_maker(task: *mut Task, sk: *mut c_void) {
    let mark = if sk.is_null() {
        None
    } else {
        // SAFETY: Only full sockets are given.
        unsafe { MARKS.of(sk) }
    };
    let maker = mark.map_or(Task::default(), |mark| mark.task);
    write!(task, maker.cgroup, cgroup);
    write!(task, maker.tgid, tgid);
    write!(task, maker.uid, uid);
    write!(task, maker.comm[0], comm[0]);
    write!(task, maker.comm[1], comm[1]);
    write!(task, maker.comm[2], comm[2]);
    write!(task, maker.comm[3], comm[3]);
}

/// Nanoseconds since the machine started, suspension included: what `/proc/PID/stat` counts from.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: The helper takes nothing.
    unsafe { bpf_ktime_get_boot_ns() }
}
