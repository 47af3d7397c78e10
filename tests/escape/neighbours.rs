//! F-9, H-14: other users of the same hooks. They change nothing, and nothing changes for them.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};

use aya_obj::generated::{bpf_attach_type, bpf_insn, bpf_map_type, bpf_prog_type};
use boundary::sys::bpf;
use nix::sys::signal::{Signal, kill};

use super::ALLOW;
use super::stalled::go_on;
use super::traces::cover_cgroups;
use crate::world::World;
use crate::world::needs::{cgroup2, needs};
use crate::world::processes::eventually;

#[test]
fn f09_h14_foreign_programs_above_and_beside_change_nothing() {
    needs!(root, ebpf);
    let world = World::new();
    let script = "$0 signals 1; $0 tcp 203.0.113.66 80 http:denied.test; \
                  $0 udp sendto 203.0.113.66 9999; $0 tcp 203.0.113.10 80 http:allowed.test; \
                  $0 signals 1; $0 tcp 203.0.113.10 80 http:allowed.test";
    let above = Above::make(&world);
    attach_foreign(&above.0, true);
    let session = world.boundary(&ALLOW, &["sh", "-c", script, world.attack()]).start();
    session.wait_for("ready");
    let waiting = world.process("attack").pid;
    let own = above.session();
    attach_foreign(&own, true);
    kill(waiting, Signal::SIGUSR1).expect("it is there");
    // What was allowed has been served, and the next step waits.
    session.wait_for("\"ok\":true}\nready");
    // A neighbour that refuses everything is heard too.
    attach_foreign(&own, false);
    kill(world.process("attack").pid, Signal::SIGUSR1).expect("it is there");
    let out = session.finish();
    let findings = out.findings();
    out.expect(findings.len() == 6, "every step says what became of it");
    out.expect(findings[1].to_string().contains("403"), "what was denied is denied");
    out.expect(findings[2]["errno"] == "EPERM", "a datagram is refused");
    out.expect(findings[3].to_string().contains("this is"), "what was allowed is served");
    out.expect(findings[5]["ok"] == false, "what the neighbour refuses is refused");
}

/// A cgroup of somebody else's, which the host takes for the root of the hierarchy: sessions begin
/// below it.
struct Above(PathBuf);

impl Above {
    /// Makes one, for this world alone.
    fn make(world: &World) -> Self {
        Self(cover_cgroups(world))
    }

    /// The one session's cgroup. In a container its own is beside it.
    fn session(&self) -> PathBuf {
        let entries = fs::read_dir(&self.0).expect("it is there").flatten();
        let is_sessions =
            |entry: &fs::DirEntry| entry.file_name().display().to_string().starts_with("boundary-");
        let mut sessions = entries.filter(is_sessions).map(|entry| entry.path());
        sessions.next().expect("the session is below it")
    }
}

impl Drop for Above {
    fn drop(&mut self) {
        // What a failed test leaves goes with the next one.
        if !std::thread::panicking() {
            eventually("the foreign cgroup is empty", || fs::remove_dir(&self.0).is_ok());
        }
    }
}

/// One instruction of somebody else's program.
fn instruction(code: u8, registers: u8, offset: i16, imm: i32) -> bpf_insn {
    bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(registers & 0xf, registers >> 4),
        off: offset,
        imm,
    }
}

/// Attaches somebody else's program to the hook of IPv4 connections: it lets everything pass, or
/// nothing. It goes with the cgroup.
fn attach_foreign(cgroup: &Path, passes: bool) {
    // r0 = passes; exit
    let instructions = [instruction(0xb7, 0, 0, i32::from(passes)), instruction(0x95, 0, 0, 0)];
    let kind = bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR as u32;
    attach(cgroup, &instructions, kind, bpf_attach_type::BPF_CGROUP_INET4_CONNECT as u32);
}

/// Attaches a program to a cgroup, beside whatever is there.
fn attach(cgroup: &Path, instructions: &[bpf_insn], kind: u32, hook: u32) {
    let shape = bpf::ProgramShape { name: "foreign", kind, hook, instructions, license: c"GPL" };
    let program = bpf::load_program(&shape, None).expect("a few instructions are verified");
    let cgroup = File::open(cgroup).expect("it is there");
    bpf::attach(program.as_fd(), cgroup.as_fd(), hook).expect("there is room for many");
}

/// Somebody else's count of the packets that leave a cgroup.
struct Meter(bpf::Map);

impl Meter {
    /// Begins to count, and lets everything pass.
    fn at(cgroup: &Path) -> Self {
        let shape = bpf::MapShape {
            name: "meter",
            kind: bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
            key_size: 4,
            value_size: 8,
            max_entries: 1,
            flags: 0,
            types: None,
        };
        let count = bpf::Map::create(&shape).expect("root may");
        // The registers of an instruction: the target in the low half, the source in the high one.
        let (r0, r1, r2) = (0, 1, 2);
        let a_value = 2 << 4;
        let instructions = [
            // r1 = the place of the count
            instruction(0x18, r1 | a_value, 0, count.as_fd().as_raw_fd()),
            instruction(0, 0, 0, 0),
            // r2 = 1; *r1 += r2, at once; r0 = 1; exit
            instruction(0xb7, r2, 0, 1),
            instruction(0xdb, r1 | r2 << 4, 0, 0),
            instruction(0xb7, r0, 0, 1),
            instruction(0x95, 0, 0, 0),
        ];
        let kind = bpf_prog_type::BPF_PROG_TYPE_CGROUP_SKB as u32;
        attach(cgroup, &instructions, kind, bpf_attach_type::BPF_CGROUP_INET_EGRESS as u32);
        Self(count)
    }

    /// How many it has seen.
    fn count(&self) -> u64 {
        let mut value = [0; 8];
        self.0.lookup(&[0; 4], &mut value).expect("it has one entry");
        u64::from_ne_bytes(value)
    }
}

#[test]
fn f09_h14_somebody_elses_count_of_packets_goes_on_before_during_and_after() {
    needs!(root, machine, ebpf);
    let world = World::new();
    let above = Above::make(&world);
    let meter = Meter::at(&above.0);
    let root = cgroup2().expect("needed");
    // A neighbour in the cgroup above the session, who sends what the command may not.
    let script = format!("echo 0 >{root}/cgroup.procs; exec $0 udp sendto 203.0.113.66 9999");
    let neighbour = || {
        let before = meter.count();
        world.bare(&["sh", "-c", &script, world.attack()]).output().reached("203.0.113.66");
        assert!(meter.count() > before, "his packet is counted");
    };
    neighbour();
    let ask = "$0 signals 1; $0 tcp 203.0.113.10 80 http:allowed.test";
    let ask = format!("{ask}; $0 udp sendto 203.0.113.66 9999; $0 signals 1");
    let session = world.boundary(&ALLOW, &["sh", "-c", &ask, world.attack()]).start();
    session.wait_for("ready");
    let beside = Meter::at(&above.session());
    neighbour();
    let (counted, none) = (meter.count(), beside.count());
    go_on(&world);
    session.wait_for("EPERM");
    let (seen_above, seen_beside) = (meter.count() - counted, beside.count() - none);
    assert!(seen_above > 0 && seen_above == seen_beside, "{seen_above} {seen_beside}");
    neighbour();
    go_on(&world);
    let out = session.finish();
    out.exits(0).says("this is").expect(out.findings()[2]["errno"] == "EPERM", "it is held");
    neighbour();
}
