//! Every map of the kernel half: who writes it, who reads it, when an entry dies.
//!
//! The names are those of `boundary_common::maps`; the loader refuses an object that lacks one.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE;
use aya_ebpf::bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE};
use aya_ebpf::helpers::generated::{bpf_sk_storage_delete, bpf_sk_storage_get};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray, RingBuf};
use boundary_common::ABI;
use boundary_common::flow::{Doors, Flow, FlowKey, Mark};

/// Where the doors stand. Written once by the user half before anything is attached, then frozen.
#[map]
static DOORS: Array<Doors> = Array::with_max_entries(1, 0);

/// Whose socket it is. Written by `sock_create`, and by the user half for the doors; an accepted
/// socket inherits it from its listener. Dies with the socket.
#[btf_map]
pub(crate) static MARKS: Storage<Mark, { (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize }> =
    Storage::new();

/// Where a socket meant to go. Written when it is turned, read when its packets leave and when the
/// program asks for its peer. Dies with the socket, or when the socket goes somewhere untouched.
#[btf_map]
pub(crate) static TARGETS: Storage<Flow, { BPF_F_NO_PREALLOC as usize }> = Storage::new();

/// The same by source address and port, as `accept` shows it. Written by `egress` before the packet
/// leaves, so that no door can see a client first. The proxy deletes a connection's entry when it
/// accepts; what nobody accepts is overwritten by the next use of the port or is the first to be
/// evicted. A missing entry means no service, never a guess.
#[map]
pub(crate) static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(16384, 0);

/// What was refused. Written by every hook, consumed by the user half.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

/// How many refusals did not fit into the ring.
#[map]
pub(crate) static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The doors, if the user half wrote them and means the same by them.
#[inline(always)]
pub(crate) fn doors() -> Option<&'static Doors> {
    DOORS.get(0).filter(|doors| doors.abi == ABI || is_unguarded(doors))
}

/// Whether whoever listens at a door's port is to be taken for the door, to show that a test
/// notices. In no build that anybody uses.
#[inline(always)]
#[cfg(feature = "mutations")]
pub(crate) fn is_unguarded(doors: &Doors) -> bool {
    doors.abi == boundary_common::ABI_UNGUARDED
}

/// Only the mark makes a door.
#[inline(always)]
#[cfg(not(feature = "mutations"))]
pub(crate) const fn is_unguarded(_doors: &Doors) -> bool {
    false
}

/// Storage that lives with a socket. aya's own type fixes the flags and takes no socket but that
/// of one context; the fields are what the loader reads from the type information.
#[repr(C)]
pub(crate) struct Storage<T, const FLAGS: usize> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
}

// SAFETY: The pointers exist for their types alone; nothing ever follows them.
unsafe impl<T, const FLAGS: usize> Sync for Storage<T, FLAGS> {}

impl<T, const FLAGS: usize> Storage<T, FLAGS> {
    /// The definition, for the loader to read.
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    /// The value of a socket, if it has one.
    ///
    /// # Safety
    ///
    /// `socket` is a full socket, or the context of a `sock_create` program.
    #[inline(always)]
    pub(crate) unsafe fn of(&'static self, socket: *mut c_void) -> Option<&'static T> {
        // SAFETY: The caller's promise; a lookup creates nothing.
        let value = unsafe { bpf_sk_storage_get(self.map(), socket, ptr::null_mut(), 0) };
        // SAFETY: A value is valid for as long as the program runs, and records hold no pointers,
        // so that a write from another processor can at worst be seen in part.
        unsafe { value.cast::<T>().as_ref() }
    }

    /// The value of a socket to write to, made of zeros if it had none.
    ///
    /// # Safety
    ///
    /// As for [`Storage::of`].
    #[inline(always)]
    pub(crate) unsafe fn of_or_new(&'static self, socket: *mut c_void) -> Option<*mut T> {
        let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        // SAFETY: The caller's promise.
        let value = unsafe { bpf_sk_storage_get(self.map(), socket, ptr::null_mut(), create) };
        if value.is_null() { None } else { Some(value.cast()) }
    }

    /// Forgets the value of a socket.
    ///
    /// # Safety
    ///
    /// `socket` is a full socket.
    #[inline(always)]
    pub(crate) unsafe fn forget(&'static self, socket: *mut c_void) {
        // SAFETY: The caller's promise. It fails if there was none, which is as good.
        unsafe { bpf_sk_storage_delete(self.map(), socket) };
    }

    /// The map as helpers take it.
    #[inline(always)]
    fn map(&'static self) -> *mut c_void {
        ptr::from_ref(self).cast_mut().cast()
    }
}
