//! Loopback behind every jail: the command's own servers, and ports that nobody listens at.

use crate::world::World;
use crate::world::needs::needs;

/// What programs do there.
const LOOPBACK: &str = include_str!("loopback.py");

#[test]
fn servers_of_the_command_answer_and_ports_without_one_refuse_as_without_boundary() {
    needs!(root, bpf, python3);
    let world = World::new();
    let program = world.file("loopback.py", LOOPBACK);
    let command = ["python3", program.to_str().expect("our own name")];
    let without = world.bare(&command).output();
    without.exits(0).says("closed v6 ECONNREFUSED");
    let out = world.boundary(&[], &command).output();
    let is_same = out.stdout == without.stdout;
    out.exits(0).expect(is_same, &format!("as without boundary:\n{}", without.stdout));
}

/// What signals do to programs that wait there.
const WAITING: &str = include_str!("waiting.py");

#[test]
fn whoever_waits_is_interrupted_stopped_and_continued_as_without_boundary() {
    needs!(root, bpf, python3);
    let world = World::new();
    let program = world.file("waiting.py", WAITING);
    let program = program.to_str().expect("our own name");
    let told = |name: &str, boundary: bool| {
        let path = world.folder().join("tmp").join(name).display().to_string();
        let command = ["python3", program, &path];
        if boundary { world.boundary(&[], &command) } else { world.bare(&command) }.output()
    };
    let without = told("without", false);
    without.exits(0).says("end");
    let out = told("within", true);
    let is_same = out.stdout == without.stdout;
    out.exits(0).expect(is_same, &format!("as without boundary:\n{}", without.stdout));
}

/// Connects from an address of the machine that is none of loopback's.
const FROM_ELSEWHERE: &str = "
import errno, socket, sys
for family, own in ((socket.AF_INET, sys.argv[1]), (socket.AF_INET6, sys.argv[2])):
    s = socket.socket(family)
    s.settimeout(20)
    s.bind((own, 0))
    target = socket.getaddrinfo('allowed.test', 80, family, socket.SOCK_STREAM)[0][4]
    print('from', own, errno.errorcode.get(s.connect_ex(target)))
s = socket.socket()
s.bind(('127.0.0.1', 0))
print('from loopback', s.connect_ex((socket.gethostbyname('allowed.test'), 80)))";

#[test]
fn who_binds_to_an_address_of_the_machine_is_refused_at_once() {
    needs!(root, ebpf, python3);
    let world = World::new();
    let command = ["/usr/bin/python3", "-c", FROM_ELSEWHERE, "10.77.0.2", "fd77::2"];
    let out = world.boundary(&["--allow", "domain=allowed.test"], &command).output();
    out.exits(0).says("from 10.77.0.2 EPERM").says("from fd77::2 EPERM");
    out.says("from loopback 0");
    out.record(&[("code", "packet"), ("comm", "python3")]);
}
