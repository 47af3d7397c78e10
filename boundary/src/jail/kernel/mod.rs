//! Loads the kernel half and attaches it: the only file that knows it is an object of programs and
//! maps.
//!
//! The object is parsed by aya-obj and loaded by `sys::bpf`. aya's own loader parses the kernel's
//! 5 MB of type information first, which nothing here needs, and attaches by links, which die
//! with their holder: 25 ms and walls that a `kill -9` opens, against 2 ms and walls that stay.
//!
//! *Standing*: `jail::ebpf` loads, marks the doors and attaches; the tables outlive the loader.
//! *Never*: leaves anything behind. What is loaded goes with its descriptors, what is attached goes
//! with the cgroup.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::io;
use std::iter;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};

use aya::maps::{MapData, MapError};
use aya_obj::btf::{BtfError, BtfFeatures};
use aya_obj::generated::{bpf_attach_type as hook, bpf_prog_type as kind};
use aya_obj::{Object, ParseError};
use boundary_common::flow::{Doors, Flow, FlowKey, Mark};
use boundary_common::{LATER, PROGRAMS, maps};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes};

use crate::jail::mutation;
use crate::sys::bpf;

/// The object, or nothing in a build without bpf-linker.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/boundary-ebpf"));

/// How long a verifier's explanation may be.
const LOG: usize = 1 << 20;

/// Why the kernel half could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object is the empty one.
    #[error("built without the kernel half; run `cargo xtask setup` and build again")]
    Stub,
    /// The object is not one.
    #[error("the kernel half is damaged")]
    Object(#[from] ParseError),
    /// Its type information is not what it should be.
    #[error("the type information of the kernel half is damaged")]
    Types(#[from] BtfError),
    /// Its references do not fit its maps.
    #[error("the parts of the kernel half do not fit")]
    Relocation(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The two halves mean different things by a name.
    #[error("the kernel half has no {0} as this half knows it")]
    Misfit(&'static str),
    /// The kernel refused something other than a program.
    #[error("{call} for {name}: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// The map or program that it was about.
        name: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel refused a program.
    #[error("the kernel refuses the program {name}: {source}{}", last_lines(.log))]
    Program {
        /// The program.
        name: &'static str,
        /// What the verifier said.
        log: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A table that the library reads could not be opened.
    #[error("a table of the kernel half cannot be opened")]
    Table(#[from] MapError),
}

impl Error {
    /// Names the call and what it was about in an error.
    fn call(call: &'static str, name: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Call { call, name, source }
    }
}

/// The kernel half, loaded and not attached.
#[derive(Debug)]
pub(super) struct Kernel {
    programs: Vec<(&'static str, OwnedFd)>,
    /// Whether the kernel has the hooks on calls that name a unix socket.
    judges_unix: bool,
    doors: Table<u32, Doors>,
    marks: Table<i32, Mark>,
    flows: Table<FlowKey, Flow>,
    events: bpf::Map,
    lost: bpf::Map,
}

impl Kernel {
    /// Loads every map and program.
    pub(super) fn load() -> Result<Self, Error> {
        if OBJECT.is_empty() {
            return Err(Error::Stub);
        }
        let _raised = LockedMemory::raise();
        let mut object = Object::parse(OBJECT)?;
        let mut made = make_maps(&mut object)?;
        let programs = load_all(&object)?;
        let is_there = |later: &&str| programs.iter().any(|(name, _)| name == later);
        Ok(Self {
            judges_unix: LATER.iter().all(is_there),
            programs,
            doors: Table::new(take(&mut made, maps::DOORS)?),
            marks: Table::new(take(&mut made, maps::MARKS)?),
            flows: Table::new(take(&mut made, maps::FLOWS)?),
            events: take(&mut made, maps::EVENTS)?,
            lost: take(&mut made, maps::LOST)?,
        })
    }

    /// What the kernel says to each program, loaded and, given a cgroup, attached there: to tell a
    /// person what is missing.
    pub(super) fn try_each(
        cgroup: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<(&'static str, io::Result<()>)>, Error> {
        if OBJECT.is_empty() {
            return Err(Error::Stub);
        }
        let _raised = LockedMemory::raise();
        let mut object = Object::parse(OBJECT)?;
        let _maps = make_maps(&mut object)?;
        let mut tried = Vec::new();
        for name in PROGRAMS {
            let (_, hook) = numbers(name).ok_or(Error::Misfit(name))?;
            let answer = match load(&object, name) {
                Ok((_, program)) => {
                    cgroup.map_or(Ok(()), |cgroup| bpf::attach(program.as_fd(), cgroup, hook))
                }
                Err(Error::Program { source, .. }) => Err(source),
                Err(error) => return Err(error),
            };
            tried.push((name, answer));
        }
        Ok(tried)
    }

    /// Whether the kernel has the hooks on calls that name a unix socket (Linux 6.7).
    pub(super) fn judges_unix(&self) -> bool {
        self.judges_unix
    }

    /// Tells the programs where the doors stand, once for all.
    pub(super) fn set_doors(&self, doors: &Doors) -> Result<(), Error> {
        self.doors.set(&0, doors).map_err(Error::call("BPF_MAP_UPDATE_ELEM", maps::DOORS))?;
        self.doors.map.freeze().map_err(Error::call("BPF_MAP_FREEZE", maps::DOORS))
    }

    /// Marks a socket as a door.
    pub(super) fn mark_door(&self, socket: BorrowedFd<'_>) -> Result<(), Error> {
        self.marks
            .set(&socket.as_raw_fd(), &Mark::door())
            .map_err(Error::call("BPF_MAP_UPDATE_ELEM", maps::MARKS))
    }

    /// Attaches every program to a cgroup. What was attached before a failure goes with the cgroup.
    ///
    /// The cgroup keeps them from here on. A handle of each here would be a descriptor less for
    /// everybody who is forked from here.
    pub(super) fn attach(&mut self, cgroup: BorrowedFd<'_>) -> Result<(), Error> {
        let programs = std::mem::take(&mut self.programs);
        let wanted = programs.iter().filter(|(name, _)| mutation::stands(name));
        wanted.into_iter().try_for_each(|(name, program)| {
            let (_, hook) = numbers(name).ok_or(Error::Misfit(name))?;
            bpf::attach(program.as_fd(), cgroup, hook).map_err(Error::call("BPF_PROG_ATTACH", name))
        })
    }

    /// Reads a table, for whether that is permitted.
    pub(super) fn asks(&self) -> io::Result<()> {
        self.flows.get(&FlowKey::new_zeroed()).map(drop)
    }

    /// Another handle of the flows.
    pub(super) fn flows(&self) -> io::Result<Table<FlowKey, Flow>> {
        self.flows.try_clone()
    }

    /// The ring of refusals, and the count of those that did not fit.
    pub(super) fn events(&self) -> Result<(MapData, MapData), Error> {
        let duplicate = |map: &bpf::Map, name| {
            let fd = map.as_fd().try_clone_to_owned().map_err(Error::call("dup", name))?;
            Ok::<_, Error>(MapData::from_fd(fd)?)
        };
        Ok((duplicate(&self.events, maps::EVENTS)?, duplicate(&self.lost, maps::LOST)?))
    }
}

/// A map whose keys and values are records.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    map: bpf::Map,
    records: PhantomData<fn(K) -> V>,
}

impl<K, V> Table<K, V>
where
    K: IntoBytes + Immutable,
    V: IntoBytes + Immutable + FromBytes,
{
    /// The map with its records named. A map of other sizes refuses every call.
    fn new(map: bpf::Map) -> Self {
        Self { map, records: PhantomData }
    }

    /// Sets a record.
    pub(super) fn set(&self, key: &K, value: &V) -> io::Result<()> {
        self.map.update(key.as_bytes(), value.as_bytes())
    }

    /// Copies a record.
    pub(super) fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = V::new_zeroed();
        let found = self.map.lookup(key.as_bytes(), value.as_mut_bytes())?;
        Ok(found.then_some(value))
    }

    /// Copies a record and deletes it. One call for both exists since Linux 5.14 only; nobody else
    /// takes records, so two are as good.
    pub(super) fn take(&self, key: &K) -> io::Result<Option<V>> {
        let value = self.get(key)?;
        if value.is_some() {
            self.map.delete(key.as_bytes())?;
        }
        Ok(value)
    }

    /// How many records there are.
    pub(super) fn count(&self) -> io::Result<usize> {
        self.map.count()
    }

    /// The map's descriptor.
    pub(super) fn descriptor(&self) -> RawFd {
        self.map.as_fd().as_raw_fd()
    }

    /// Another handle of the same map.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::new(self.map.try_clone()?))
    }
}

/// How many threads load at the most: as many as there are programs that take long.
const LOADERS: usize = 4;

/// Loads every program, on every processor that there is: the verifier is most of what a session
/// waits for when it starts, and it holds no lock from one program to the next. The longest are
/// taken first, so that no thread is left with one at the end.
///
/// The threads are gone when this returns, as they must be before anything forks.
fn load_all(object: &Object) -> Result<Vec<(&'static str, OwnedFd)>, Error> {
    let mut names = PROGRAMS;
    names.sort_by_key(|name| Reverse(length_of(object, name)));
    let next = AtomicUsize::new(0);
    let load_some = || {
        let taken = iter::from_fn(|| names.get(next.fetch_add(1, Ordering::Relaxed)));
        // Without them, as before Linux 6.7: so that what is done there can be tried on any kernel.
        let taken = taken.filter(|name| mutation::stands("later") || !LATER.contains(name));
        let loaded = taken.map(|name| load(object, name));
        loaded.filter(|loaded| !is_later(loaded)).collect::<Result<Vec<_>, _>>()
    };
    std::thread::scope(|scope| {
        // Where no thread is to be had, this one does all.
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, load_some).ok();
        let others: Vec<_> = (1..processors().min(LOADERS)).map_while(spawn).collect();
        let mut programs = load_some()?;
        for other in others {
            programs.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(programs)
    })
}

/// How many instructions a program has.
fn length_of(object: &Object, name: &str) -> usize {
    let function = object.programs.get(name).map(aya_obj::Program::function_key);
    let function = function.and_then(|key| object.functions.get(&key));
    function.map_or(0, |function| function.instructions.len())
}

/// How many processors this process may use. What the standard library asks for besides, a share of
/// them, takes longer to find out than it is worth here.
fn processors() -> usize {
    let usable = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count()).filter(|&number| usable.is_set(number).unwrap_or_default()).count()
}

/// Whether a program was refused because this kernel does not know its hook yet.
fn is_later(loaded: &Result<(&'static str, OwnedFd), Error>) -> bool {
    matches!(loaded, Err(Error::Program { name, source, log: _ })
        if LATER.contains(name) && source.kind() == io::ErrorKind::InvalidInput)
}

/// The program type and the hook of a program, by its name. Destructured by hand: the names in the
/// object's sections say the same, but a program that is attached elsewhere than its name says
/// must not exist.
fn numbers(name: &str) -> Option<(u32, u32)> {
    use hook as at;
    let (kind, hook) = match name {
        "connect4" => (kind::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, at::BPF_CGROUP_INET4_CONNECT),
        "connect6" => (kind::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, at::BPF_CGROUP_INET6_CONNECT),
        "sendmsg4" => (kind::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, at::BPF_CGROUP_UDP4_SENDMSG),
        "sendmsg6" => (kind::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, at::BPF_CGROUP_UDP6_SENDMSG),
        "recvmsg4" => (kind::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, at::BPF_CGROUP_UDP4_RECVMSG),
        "recvmsg6" => (kind::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, at::BPF_CGROUP_UDP6_RECVMSG),
        "getpeername4" => (kind::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, at::BPF_CGROUP_INET4_GETPEERNAME),
        "getpeername6" => (kind::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, at::BPF_CGROUP_INET6_GETPEERNAME),
        "sock_create" => (kind::BPF_PROG_TYPE_CGROUP_SOCK, at::BPF_CGROUP_INET_SOCK_CREATE),
        "setsockopt" => (kind::BPF_PROG_TYPE_CGROUP_SOCKOPT, at::BPF_CGROUP_SETSOCKOPT),
        "egress" => (kind::BPF_PROG_TYPE_CGROUP_SKB, at::BPF_CGROUP_INET_EGRESS),
        "ingress" => (kind::BPF_PROG_TYPE_CGROUP_SKB, at::BPF_CGROUP_INET_INGRESS),
        "device" => (kind::BPF_PROG_TYPE_CGROUP_DEVICE, at::BPF_CGROUP_DEVICE),
        "connect_unix" => (kind::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, at::BPF_CGROUP_UNIX_CONNECT),
        "sendmsg_unix" => (kind::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, at::BPF_CGROUP_UNIX_SENDMSG),
        _ => return None,
    };
    Some((kind as u32, hook as u32))
}

/// Makes every map of the object and puts their descriptors into its programs.
fn make_maps(object: &mut Object) -> Result<HashMap<String, bpf::Map>, Error> {
    let types = load_types(object)?;
    let mut made = HashMap::new();
    let mut known = Vec::new();
    for (name, map) in object.maps.drain() {
        // A section of constants or globals would be a map too, and nobody fills it here.
        let ours = [maps::DOORS, maps::MARKS, maps::TARGETS, maps::FLOWS, maps::EVENTS, maps::LOST];
        let plain = ours.into_iter().find(|ours| *ours == name).ok_or(Error::Misfit("such map"))?;
        let map_made =
            make_map(plain, &map, types.as_fd()).map_err(Error::call("BPF_MAP_CREATE", plain))?;
        known.push((name.clone(), map_made.as_fd().as_raw_fd(), map));
        made.insert(name, map_made);
    }
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let known = known.iter().map(|(name, fd, map)| (name.as_str(), *fd, map));
    object.relocate_maps(known, &sections).map_err(|error| Error::Relocation(error.into()))?;
    object.relocate_calls(&sections).map_err(|error| Error::Relocation(error.into()))?;
    Ok(made)
}

/// Makes one map.
fn make_map(name: &str, map: &aya_obj::Map, types: BorrowedFd<'_>) -> io::Result<bpf::Map> {
    let types = match map {
        aya_obj::Map::Btf(map) => Some((types, map.def.btf_key_type_id, map.def.btf_value_type_id)),
        aya_obj::Map::Legacy(_) => None,
    };
    bpf::Map::create(&bpf::MapShape {
        name,
        kind: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        flags: map.map_flags(),
        types,
    })
}

/// Hands the object's own type information to the kernel, which wants it for socket storage.
fn load_types(object: &mut Object) -> Result<OwnedFd, Error> {
    // What came after 5.6 is written in older words, so that no kernel need be asked.
    let features = BtfFeatures::new(true, true, true, false, false, false, false, false);
    let types = object.fixup_and_sanitize_btf(&features)?.ok_or(Error::Misfit("types"))?;
    bpf::load_types(&types.to_bytes()).map_err(Error::call("BPF_BTF_LOAD", "types"))
}

/// Loads one program, and again with a log if the kernel refuses it.
fn load(object: &Object, name: &'static str) -> Result<(&'static str, OwnedFd), Error> {
    let program = object.programs.get(name).ok_or(Error::Misfit(name))?;
    let function = object.functions.get(&program.function_key()).ok_or(Error::Misfit(name))?;
    let (kind, hook) = numbers(name).ok_or(Error::Misfit(name))?;
    let instructions = function.instructions.as_slice();
    let shape =
        bpf::ProgramShape { name, kind, hook, instructions, license: program.license.as_c_str() };
    match bpf::load_program(&shape, None) {
        Ok(fd) => Ok((name, fd)),
        Err(source) => Err(explained(&shape, name, source)),
    }
}

/// Asks the verifier why it refused a program.
fn explained(shape: &bpf::ProgramShape<'_>, name: &'static str, source: io::Error) -> Error {
    let mut log = vec![0; LOG];
    drop(bpf::load_program(shape, Some(&mut log)));
    let log = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy().into_owned();
    Error::Program { name, log, source }
}

/// The end of a verifier's log, where the reason is.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(4).collect();
    lines.into_iter().rev().fold(String::new(), |text, line| text + "\n  " + line)
}

/// Takes a map out of those that were made.
fn take(made: &mut HashMap<String, bpf::Map>, name: &'static str) -> Result<bpf::Map, Error> {
    made.remove(name).ok_or(Error::Misfit(name))
}

/// The limit of locked memory lifted, until it is dropped: before Linux 5.11 maps count against it.
/// The command must not inherit it, hence the way back.
struct LockedMemory(Option<(u64, u64)>);

impl LockedMemory {
    /// Lifts the limit where that is permitted. Where not, making a map says why.
    fn raise() -> Self {
        let before = getrlimit(Resource::RLIMIT_MEMLOCK).ok();
        let raised = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        Self(raised.ok().and(before))
    }
}

impl Drop for LockedMemory {
    fn drop(&mut self) {
        if let Some((soft, hard)) = self.0 {
            setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests;
