//! bpf(2): maps, type information, programs and their attachment, without a library between.
//!
//! *Standing*: `jail::kernel` loads the kernel half through these.
//! *Never*: uses a link. A link dies with the process that holds it, and the walls with it; what is
//! attached here stays until its cgroup goes.

#![expect(unsafe_code, reason = "bpf(2) takes pointers in integers")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use aya_obj::generated::{bpf_cmd, bpf_insn, bpf_map_type};
use zerocopy::{Immutable, IntoBytes};

/// What a map is to be.
#[derive(Debug, Clone, Copy)]
pub struct MapShape<'a> {
    /// Its name, of which the kernel keeps 15 bytes.
    pub name: &'a str,
    /// The kernel's number of the map type.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// How many entries at most, or bytes of a ring.
    pub max_entries: u32,
    /// The map's flags.
    pub flags: u32,
    /// The type information, and the numbers of the key's and the value's types in it.
    pub types: Option<(BorrowedFd<'a>, u32, u32)>,
}

/// A map of the kernel. Knows the sizes that it was made with, so that no call reads or writes
/// beyond a slice.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    key_size: usize,
    /// None where a value is not one run of bytes of that size.
    value_size: Option<usize>,
}

impl Map {
    /// Makes a map.
    #[doc(alias = "BPF_MAP_CREATE")]
    pub fn create(shape: &MapShape<'_>) -> io::Result<Self> {
        let (btf_fd, btf_key, btf_value) =
            shape.types.map_or((0, 0, 0), |(fd, key, value)| (number(fd), key, value));
        let attributes = MapCreate {
            kind: shape.kind,
            key_size: shape.key_size,
            value_size: shape.value_size,
            max_entries: shape.max_entries,
            flags: shape.flags,
            name: truncated(shape.name),
            btf_fd,
            btf_key,
            btf_value,
            ..MapCreate::default()
        };
        // SAFETY: The attributes hold no pointer.
        let fd = unsafe { fd_from(bpf_cmd::BPF_MAP_CREATE, &attributes) }?;
        let key_size = usize::try_from(shape.key_size).map_err(io::Error::other)?;
        let value_size = usize::try_from(shape.value_size).map_err(io::Error::other)?;
        let value_size = (!is_per_cpu(shape.kind)).then_some(value_size);
        Ok(Self { fd, key_size, value_size })
    }

    /// Copies the value behind a key; false if there is none.
    #[doc(alias = "BPF_MAP_LOOKUP_ELEM")]
    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        let length = value.len();
        let attributes = self.element(key, length, value.as_mut_ptr().expose_provenance())?;
        // SAFETY: Key and value have the map's sizes, and the kernel writes to the value alone.
        found(unsafe { call(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &attributes) })
    }

    /// Sets the value behind a key.
    #[doc(alias = "BPF_MAP_UPDATE_ELEM")]
    pub fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let attributes = self.element(key, value.len(), value.as_ptr().expose_provenance())?;
        // SAFETY: Key and value have the map's sizes, and the kernel only reads them.
        unsafe { call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &attributes) }.map(drop)
    }

    /// Deletes a key; false if there was none.
    #[doc(alias = "BPF_MAP_DELETE_ELEM")]
    pub fn delete(&self, key: &[u8]) -> io::Result<bool> {
        let attributes = self.element(key, self.value_size.unwrap_or_default(), 0)?;
        // SAFETY: The key has the map's size, and the kernel reads nothing else.
        found(unsafe { call(bpf_cmd::BPF_MAP_DELETE_ELEM, &attributes) })
    }

    /// How many keys there are. What changes meanwhile may be missed or counted twice.
    #[doc(alias = "BPF_MAP_GET_NEXT_KEY")]
    pub fn count(&self) -> io::Result<usize> {
        /// More than any map of ours holds; a map that is written meanwhile may begin anew.
        const MOST: usize = 1 << 18;
        let (mut last, mut next) = (None, vec![0; self.key_size]);
        for count in 0..MOST {
            let attributes = MapElement {
                map: number(self.as_fd()),
                key: last.as_ref().map_or(0, |key: &Vec<u8>| key.as_ptr().expose_provenance())
                    as u64,
                value: next.as_mut_ptr().expose_provenance() as u64,
                ..MapElement::default()
            };
            // SAFETY: Both pointers are to the size of a key, which is all that the kernel reads
            // and writes; none means the first key.
            if !found(unsafe { call(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &attributes) })? {
                return Ok(count);
            }
            last = Some(next.clone());
        }
        Ok(MOST)
    }

    /// Refuses every later write from user space.
    #[doc(alias = "BPF_MAP_FREEZE")]
    pub fn freeze(&self) -> io::Result<()> {
        let attributes = MapElement { map: number(self.as_fd()), ..MapElement::default() };
        // SAFETY: The attributes hold no pointer.
        unsafe { call(bpf_cmd::BPF_MAP_FREEZE, &attributes) }.map(drop)
    }

    /// Another handle of the same map.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, ..*self })
    }

    /// The attributes of a call about one element, if the slices have the map's sizes.
    fn element(&self, key: &[u8], length: usize, value: usize) -> io::Result<MapElement> {
        if key.len() != self.key_size || self.value_size != Some(length) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let map = number(self.as_fd());
        let (key, value) = (key.as_ptr().expose_provenance() as u64, value as u64);
        Ok(MapElement { map, key, value, ..MapElement::default() })
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Hands type information to the kernel.
#[doc(alias = "BPF_BTF_LOAD")]
pub fn load_types(information: &[u8]) -> io::Result<OwnedFd> {
    let attributes = BtfLoad {
        information: information.as_ptr().expose_provenance() as u64,
        size: length(information.len())?,
        ..BtfLoad::default()
    };
    // SAFETY: The pointer and the size are of one slice, which the kernel only reads.
    unsafe { fd_from(bpf_cmd::BPF_BTF_LOAD, &attributes) }
}

/// A program to load.
#[derive(Debug, Clone, Copy)]
pub struct ProgramShape<'a> {
    /// Its name, of which the kernel keeps 15 bytes.
    pub name: &'a str,
    /// The kernel's number of the program type.
    pub kind: u32,
    /// The kernel's number of the hook that it will be attached to.
    pub hook: u32,
    /// Its instructions.
    pub instructions: &'a [bpf_insn],
    /// Its licence.
    pub license: &'a CStr,
}

/// How often a program is loaded that signals interrupt.
const MOST_LOADS: u32 = 10;

/// Loads a program. With `log` the verifier says there what it thinks; that costs time, so only a
/// refused program is worth loading again with one.
///
/// The verifier gives up when a signal arrives, even one that does nothing (`EAGAIN`), and is asked again.
#[doc(alias = "BPF_PROG_LOAD")]
pub fn load_program(program: &ProgramShape<'_>, log: Option<&mut [u8]>) -> io::Result<OwnedFd> {
    let mut attributes = ProgramLoad {
        kind: program.kind,
        count: length(program.instructions.len())?,
        instructions: program.instructions.as_ptr().expose_provenance() as u64,
        license: program.license.as_ptr().expose_provenance() as u64,
        name: truncated(program.name),
        hook: program.hook,
        ..ProgramLoad::default()
    };
    if let Some(log) = log {
        attributes.log_level = 1;
        attributes.log_size = length(log.len())?;
        attributes.log = log.as_mut_ptr().expose_provenance() as u64;
    }
    // SAFETY: Every pointer is of a slice or string that outlives the call, with its own length;
    // the kernel writes to the log alone, which is borrowed for writing.
    let mut load = || unsafe { fd_from(bpf_cmd::BPF_PROG_LOAD, &attributes) };
    let is_interrupted = |loaded: &io::Result<OwnedFd>| {
        loaded.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    };
    // The last one is the answer, whatever it is.
    (1..MOST_LOADS).map(|_| load()).find(|loaded| !is_interrupted(loaded)).unwrap_or_else(&mut load)
}

/// Attaches a program to a cgroup beside whatever is there. It stays until the cgroup goes,
/// whoever dies.
#[doc(alias = "BPF_PROG_ATTACH")]
pub fn attach(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, hook: u32) -> io::Result<()> {
    /// Several programs, of this cgroup and of those above it.
    #[doc(alias = "BPF_F_ALLOW_MULTI")]
    const BESIDE: u32 = 1 << 1;
    let attributes =
        ProgramAttach { cgroup: number(cgroup), program: number(program), hook, flags: BESIDE };
    // SAFETY: The attributes hold no pointer.
    unsafe { call(bpf_cmd::BPF_PROG_ATTACH, &attributes) }.map(drop)
}

/// `bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Default, IntoBytes, Immutable)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; 16],
    interface: u32,
    btf_fd: u32,
    btf_key: u32,
    btf_value: u32,
    btf_vmlinux_value: u32,
}

/// `bpf_attr` for the calls about one element.
#[repr(C)]
#[derive(Default, IntoBytes, Immutable)]
struct MapElement {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `bpf_attr` for `BPF_BTF_LOAD`.
#[repr(C)]
#[derive(Default, IntoBytes, Immutable)]
struct BtfLoad {
    information: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    padding: u32,
}

/// `bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default, IntoBytes, Immutable)]
struct ProgramLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    hook: u32,
}

/// `bpf_attr` for `BPF_PROG_ATTACH`, up to what every kernel knows.
#[repr(C)]
#[derive(Default, IntoBytes, Immutable)]
struct ProgramAttach {
    cgroup: u32,
    program: u32,
    hook: u32,
    flags: u32,
}

/// Calls bpf(2) and owns the descriptor that it returns.
///
/// # Safety
///
/// As for [`call`], and the command returns a new descriptor.
unsafe fn fd_from<A: IntoBytes + Immutable>(
    command: bpf_cmd,
    attributes: &A,
) -> io::Result<OwnedFd> {
    // SAFETY: The caller's promise.
    let fd = unsafe { call(command, attributes) }?;
    // SAFETY: The descriptor is new, and nobody else has seen it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Calls bpf(2).
///
/// # Safety
///
/// Every pointer in the attributes is valid for what the command reads from or writes to it.
unsafe fn call<A: IntoBytes + Immutable>(command: bpf_cmd, attributes: &A) -> io::Result<i32> {
    let bytes = attributes.as_bytes();
    // SAFETY: The attributes are readable for their size; the rest is the caller's promise.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, bytes.as_ptr(), bytes.len()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(answer).map_err(io::Error::other)
}

/// Turns "no such entry" into false.
fn found(answer: io::Result<i32>) -> io::Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a lookup would write a value for every processor.
fn is_per_cpu(kind: u32) -> bool {
    let per_cpu = [
        bpf_map_type::BPF_MAP_TYPE_PERCPU_HASH,
        bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY,
        bpf_map_type::BPF_MAP_TYPE_LRU_PERCPU_HASH,
        bpf_map_type::BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
    ];
    per_cpu.into_iter().any(|per_cpu| per_cpu as u32 == kind)
}

/// A descriptor as the attributes hold it. An open one is never negative.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// A length as the attributes hold it.
fn length(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(io::Error::other)
}

/// A name as the kernel keeps it: at most 15 bytes and NUL.
fn truncated(name: &str) -> [u8; 16] {
    let mut kept = [0; 16];
    for (to, from) in kept.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    kept
}
