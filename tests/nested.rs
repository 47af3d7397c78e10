//! boundary inside boundary: the inner policy can only be narrower.

use std::fs;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::world::jail;
use crate::world::needs::needs;
use crate::world::processes::eventually;
use crate::world::{Output, World};

/// The hosts that there are.
const HOSTS: [&str; 3] = ["x.test", "y.test", "z.test"];

/// Asks each host for something, and says what it answers.
const ASK: &str = "for host in x.test y.test z.test; do \
    curl -s -o /dev/null -w \"$host:%{http_code}\\n\" http://$host/; done";

/// A world with the hosts.
fn world() -> World {
    let world = World::new();
    for (number, host) in (10..).zip(HOSTS) {
        world.name(host, &[&format!("203.0.113.{number}")]);
    }
    world
}

/// What is written before a command to run it under boundary with a policy of these hosts.
fn under(world: &World, hosts: &[&str]) -> String {
    let mut words = world.exact(&[]).words();
    let binary = words.remove(0);
    let rules = hosts.iter().map(|host| format!("--allow domain={host} "));
    format!("{binary} {}--", rules.collect::<String>())
}

/// Runs a script under boundary with a policy of these hosts.
fn run(world: &World, hosts: &[&str], script: &str) -> Output {
    run_as(world, hosts, script, false)
}

/// The same, as root or as a user.
fn run_as(world: &World, hosts: &[&str], script: &str, guest: bool) -> Output {
    let rules: Vec<String> = hosts.iter().map(|host| format!("--allow=domain={host}")).collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let run = world.boundary(&rules, &["sh", "-c", script]);
    if guest { run.through_sudo().output() } else { run.output() }
}

/// The hosts that answered, in order; a denial is no answer.
#[track_caller]
fn permits(out: &Output, hosts: &[&str]) {
    for host in HOSTS {
        let status = if hosts.contains(&host) { 200 } else { 403 };
        out.says(&format!("{host}:{status}"));
        let arrived = out.requests.iter().any(|request| request.header("host") == Some(host));
        out.expect(arrived == hosts.contains(&host), &format!("{host} is asked or not"));
    }
}

#[test]
fn an_inner_policy_permits_what_the_outer_one_does_too() {
    needs!(root, rooms, curl);
    let world = world();
    for guest in [false, true] {
        let script = format!("{} sh -c '{ASK}'", under(&world, &["x.test", "y.test"]));
        let out = run_as(&world, &["y.test", "z.test"], &script, guest);
        permits(&out, &["y.test"]);
        out.record(&[("decision", "deny"), ("host", "x.test"), ("code", "no_rule")]);
        out.record(&[("decision", "deny"), ("host", "z.test"), ("code", "no_rule")]);
        out.record(&[("decision", "allow"), ("host", "y.test")]);
    }
}

#[test]
fn an_inner_policy_without_rules_permits_nothing_and_the_outer_one_stays() {
    needs!(root, rooms, curl);
    let world = world();
    let inner = under(&world, &[]);
    permits(&run(&world, &["*"], &format!("{inner} sh -c '{ASK}'")), &[]);
    let out = run(&world, &["*"], &format!("{inner} true && {ASK}"));
    permits(&out, &HOSTS);
}

#[test]
fn three_deep_each_is_narrower_than_the_one_around() {
    needs!(root, rooms, curl);
    let world = world();
    let (second, third) =
        (under(&world, &["x.test", "y.test"]), under(&world, &["y.test", "z.test"]));
    let script = format!("{second} {third} sh -c '{ASK}'");
    permits(&run(&world, &["*"], &script), &["y.test"]);
    let fourth = under(&world, &["*"]);
    let script = format!("{second} {third} {fourth} sh -c '{ASK}'");
    permits(&run(&world, &["*"], &script), &["y.test"]);
}

/// A helper: who asks it, by either kind of socket, has it fetch from a host.
const HELPER: &str = "
import os, socket, sys, threading, urllib.request, urllib.error
place = sys.argv[1]
def serve(server):
    while True:
        line = server.accept()[0]
        name = line.recv(100).decode().strip()
        try: told = urllib.request.urlopen('http://%s/' % name).status
        except urllib.error.HTTPError as error: told = error.code
        line.send(b'%d' % told)
        line.close()
plain = socket.create_server(('127.0.0.1', 7070))
unix = socket.socket(socket.AF_UNIX)
unix.bind(place)
os.chmod(place, 0o777)
unix.listen()
abstract = socket.socket(socket.AF_UNIX)
abstract.bind('\\0' + place)
abstract.listen()
for server in (plain, unix, abstract): threading.Thread(target=serve, args=(server,)).start()
print('helper ready', flush=True)";

/// Asks the helper for a host in each way, and says what came of it.
const ASK_HELPER: &str = "
import socket, sys
place, name = sys.argv[1:]
for way, family, address in (
    ('tcp', socket.AF_INET, ('127.0.0.1', 7070)),
    ('mapped', socket.AF_INET6, ('::ffff:127.0.0.1', 7070)),
    ('unix', socket.AF_UNIX, place),
    ('abstract', socket.AF_UNIX, '\\0' + place),
):
    try:
        line = socket.socket(family)
        line.connect(address)
        line.send(b'%s\\r\\n\\r\\n' % name.encode())
        print(way, line.recv(100).decode() or 'hung up')
    except OSError as error: print(way, 'refused')";

#[test]
fn a_helper_around_a_room_is_a_stranger_to_it() {
    needs!(root, rooms, python3);
    let world = world();
    let (helper, ask) = (world.file("helper.py", HELPER), world.file("ask.py", ASK_HELPER));
    let (helper, ask) = (helper.display(), ask.display());
    let inner = under(&world, &["y.test"]);
    let place = world.folder().join("helper");
    let place = place.display();
    let begin = format!(
        "rm -f {place} {place}.out; /usr/bin/python3 {helper} {place} > {place}.out & \
         until grep -q ready {place}.out; do sleep 0.05; done"
    );
    // Around the room: it would fetch by its own, wider policy.
    let script = format!(
        "{begin}; echo outside; /usr/bin/python3 {ask} {place} x.test; \
         echo inside; {inner} /usr/bin/python3 {ask} {place} x.test; kill $!"
    );
    let out = run(&world, &["x.test", "y.test"], &script);
    let (outside, inside) = out.stdout.split_once("inside").expect("both are asked");
    for way in ["tcp", "mapped", "unix", "abstract"] {
        out.expect(outside.contains(&format!("{way} 200")), "its own room reaches it");
        out.expect(!inside.contains(&format!("{way} 200")), "the room inside it does not");
    }
    // Inside the room: it has no more than the room, and whoever is around may use it as well.
    let within = format!(
        "{begin}; /usr/bin/python3 {ask} {place} y.test; echo around > {place}.out; \
         until grep -q asked {place}.out; do sleep 0.05; done; kill $!"
    );
    let within = world.file("within.sh", &within);
    let script = format!(
        "{inner} sh {} & until grep -q around {place}.out; do sleep 0.05; done; echo outside; \
         /usr/bin/python3 {ask} {place} y.test; echo asked > {place}.out; wait",
        within.display()
    );
    let out = run(&world, &["x.test", "y.test"], &script);
    let (inside, outside) = out.stdout.split_once("outside").expect("both are asked");
    for way in ["tcp", "mapped", "unix", "abstract"] {
        out.expect(inside.contains(&format!("{way} 200")), "its own room reaches it");
        out.expect(outside.contains(&format!("{way} 200")), "and so does the one around");
    }
}

#[test]
fn an_inner_command_cannot_leave_its_room() {
    needs!(root, rooms, curl);
    let world = world();
    // Asking again without the variable, with a wider policy, at the same door, or for somebody else.
    let wide = under(&world, &["*"]);
    let attempts = format!(
        "env -u BOUNDARY_SESSION_DOOR {wide} true; echo status $?; {wide} sh -c '{ASK}'; \
         echo 0 > /sys/fs/cgroup/cgroup.procs; kill -9 $PPID"
    );
    let file = world.file("attempts", &attempts);
    let inner = under(&world, &["y.test"]);
    let out = run(&world, &["*"], &format!("{inner} sh {}; echo inner $?", file.display()));
    permits(&out, &["y.test"]);
    out.says("status 125");
    out.expect(!out.stdout.contains("inner 137"), "what is around it cannot be signalled");
}

#[test]
fn the_inner_exit_status_is_the_commands_own() {
    needs!(root, rooms);
    let world = World::new();
    let inner = under(&world, &[]);
    for (script, code) in [("exit 7", 7), ("kill -TERM $$", 143)] {
        run(&world, &[], &format!("{inner} sh -c '{script}'; exit $?")).exits(code);
    }
    run(&world, &[], &format!("{inner} no-such-command; exit $?")).exits(127);
}

#[test]
fn the_command_of_a_killed_inner_boundary_ends() {
    needs!(root, rooms);
    let world = World::new();
    let inner = under(&world, &[]);
    let attack = world.attack();
    // Two, because a reader may find the other end of one still open, and at its end.
    let [gate, end] = ["gate", "end"].map(|name| world.folder().join(name));
    for fifo in [&gate, &end] {
        mkfifo(fifo, Mode::from_bits_truncate(0o600)).expect("the folder is ours");
    }
    let script = format!(
        "{inner} {attack} signals 1 & inner=$!; read go < gate; kill -KILL $inner; wait; \
         echo over; read go < end"
    );
    let session = world.boundary(&[], &["sh", "-c", &script]).start();
    session.wait_for("ready");
    let lives = || world.processes().iter().any(|process| process.exe.ends_with("attack"));
    assert!(lives(), "the inner command runs");
    fs::write(&gate, "go\n").expect("it waits there");
    session.wait_for("over");
    eventually("the inner command is ended", || !lives());
    fs::write(&end, "go\n").expect("it waits there");
    session.finish().exits(0);
}

#[test]
fn without_a_session_around_there_is_a_clear_line() {
    needs!(root);
    let world = World::new();
    let run = world.exact(&["--", "true"]).env("BOUNDARY_SESSION_DOOR", "/run/no-such/door");
    run.output().exits(125).complains("inside another session: /run/no-such/door");
}

/// Asks at a door for a room for each of some processes, and waits: what is moved there is killed when
/// this ends.
const ASKER: &str = r#"
import json, socket, sys
for pid in sys.argv[2:]:
    door = socket.socket(socket.AF_UNIX)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    door.connect(sys.argv[1])
    door.sendall(json.dumps({"pid": int(pid), "rules": [], "exact": False}).encode() + b"\n")
    print("answer", door.recv(256).decode().strip(), flush=True)
"#;

#[test]
fn an_inner_command_has_no_say_over_the_processes_around_it() {
    needs!(root, rooms, python3);
    let world = world();
    let asker = world.file("asker.py", ASKER);
    let ask = format!("/usr/bin/python3 {} $BOUNDARY_SESSION_DOOR", asker.display());
    for guest in [false, true] {
        let inner = under(&world, &["x.test"]);
        // A process around the inner command, one inside beside it, and one of another room.
        let script = format!(
            "sleep 1000 & one=$!; {inner} sleep 1000 & two=$!; \
             {inner} sh -c '{ask} '$one' '$two' $$ $PPID 1 2; sleep 1000 & {ask} $!'; \
             kill $one $two; wait $one; echo one $?; wait $two; echo two $?"
        );
        let out = run_as(&world, &["x.test"], &script, guest);
        out.says("one 143").says("two 143");
        let granted = out.stdout.lines().filter(|line| *line == "answer ok").count();
        let questions = out.stdout.matches("answer").count();
        // Where rooms are marks there is nobody to move: whoever asks gets a room for himself.
        let is_moved = jail() == "ebpf";
        let is_fine = questions == 7 && (granted == 0 || !is_moved);
        out.expect(is_fine, "only a process's own children are given rooms");
    }
}

#[test]
fn nobody_outside_sees_the_door_of_a_session() {
    needs!(root, rooms, python3, machine);
    let world = world();
    let asker = world.file("asker.py", ASKER);
    let script = "sleep 1000 & $0 signals 1; kill $!; wait $!; echo ended $?";
    let session = world.boundary(&[], &["sh", "-c", script, world.attack()]).start();
    session.wait_for("ready");
    // A user's sessions are below /tmp.
    let ask = "ls -d /run/boundary-*/rooms /tmp/boundary-*/rooms; \
               for door in /run/boundary-*/rooms/door /run/boundary-*/door \
               /tmp/boundary-*/rooms/door /tmp/boundary-*/door; \
               do /usr/bin/python3 $0 $door 1 2 3; done";
    let asker = asker.to_str().expect("our own name");
    let out = world.bare(&["sh", "-c", ask, asker]).output();
    let found = out.stdout.lines().next().unwrap_or_default();
    out.expect(found.ends_with("/rooms"), "it is found");
    out.expect(!out.stdout.contains("answer"), "and no door in it");
    out.complains("FileNotFoundError");
    nix::sys::signal::kill(world.process("attack").pid, nix::sys::signal::Signal::SIGUSR1)
        .expect("it is there");
    session.finish().exits(0).says("ended 143");
}

#[test]
fn an_inner_record_of_its_own_is_an_error_that_says_so() {
    needs!(root, rooms);
    let world = world();
    let inner = under(&world, &["x.test"]).replace(" --", " --audit-log tmp/inner.jsonl --");
    let inner = inner.replace(" --audit-log tmp/inner.jsonl --allow", " --allow");
    let out = run(&world, &["x.test"], &format!("{inner} echo ran"));
    out.exits(125).complains("the outermost one writes the record; tmp/inner.jsonl would stay");
    out.expect(!out.stdout.contains("ran"), "and nothing is run");
    // What was said to both of them, in the environment, is the outer one's and a warning.
    let inner = under(&world, &["x.test"]);
    let script = format!("BOUNDARY_AUDIT_LOG=tmp/inner.jsonl {inner} echo ran");
    let out = run(&world, &["x.test"], &script);
    out.exits(0).says("ran").complains("the session around writes the record");
    out.expect(!world.folder().join("tmp/inner.jsonl").exists(), "there is no second file");
}

#[test]
fn where_the_session_around_has_no_rooms_the_inner_command_does_not_run() {
    needs!(root, userns, setpriv, machine);
    let world = World::new();
    let script = format!("{} echo ran", under(&world, &["x.test"]));
    let run = world.boundary(&["--jail-type", "nsjail"], &["sh", "-c", &script]);
    let out = run.output();
    out.exits(125).complains("inside another session").complains("no command was run");
    out.complains("its jail has no rooms (nsjail)");
    out.expect(!out.stdout.contains("ran"), "it is not run with less");
}

#[test]
fn whatever_an_inner_command_does_to_its_limits_it_stays_narrower() {
    needs!(root, curl, python3);
    let world = world();
    // It tries every lower value that it can think of for the marks of its room, and both together.
    let attempts = world.file(
        "limits.py",
        "import resource, subprocess, sys\n\
         own = [resource.getrlimit(it)[1] % 2**64 for it in (10, 15)]\n\
         assert all(2**62 < it < 2**64 - 1 for it in own), own\n\
         # Python takes the upper half of the numbers for negative ones.\n\
         signed = lambda it: it - 2**64 if it >= 2**63 else it\n\
         def ask(*limits):\n\
         \x20   def lower():\n\
         \x20       for kind, value in limits: resource.setrlimit(kind, [signed(value)] * 2)\n\
         \x20   line = ['curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', 'http://x.test/']\n\
         \x20   return subprocess.run(line, preexec_fn=lower, capture_output=True, text=True).stdout\n\
         found = set()\n\
         for by in [0, 1, 2**22, 2**42 - 1, 2**42, 2**42 + 1, 2**43, 2**62, 2**63]:\n\
         \x20   found.add(ask((10, max(own[0] - by, 0))))\n\
         \x20   found.add(ask((15, max(own[1] - by, 0))))\n\
         \x20   found.add(ask((10, max(own[0] - by, 0)), (15, max(own[1] - by, 0))))\n\
         try: ask((10, 2**64 - 1)); print('raised')\n\
         except subprocess.SubprocessError: print('not raised')\n\
         print('found', found)\n",
    );
    let (wide, narrow) = (under(&world, &["x.test"]), under(&world, &["y.test"]));
    let attempts = format!("{narrow} /usr/bin/python3 {}", attempts.display());
    // A wider room before its own, and one after it.
    let script = format!(
        "{wide} sleep 1000 & one=$!; {wide} true; {attempts} & own=$!; \
         {wide} sleep 1000 & two=$!; wait $own; kill $one $two; wait; {ASK}"
    );
    let options = ["--jail-type", "landjail", "--allow", "domain=*"];
    let out = world.boundary(&options, &["sh", "-c", &script]).output();
    out.says("found {'403'}").says("not raised");
    permits(&out, &HOSTS);
}

#[test]
fn an_inner_command_is_not_run_without_landlock() {
    needs!(root, ebpf, python3);
    let world = world();
    let landless = world.without("landlock").join(" ");
    let inner = under(&world, &["x.test"]);
    let script = format!("{landless} {inner} echo ran; echo status $?");
    let out = run(&world, &["*"], &script);
    out.exits(0).says("status 125").complains("landlock: it is not in force here");
    out.expect(!out.stdout.contains("ran"), "the command never ran");
}

#[test]
fn a_badge_that_was_not_given_opens_nothing() {
    needs!(root, python3);
    let world = world();
    // The badges of the rooms inside its own follow from its own. One is for a room whose policy was not
    // taken, and the others are for rooms that there never were.
    let attempts = world.file(
        "badges.py",
        "import json, os, resource, socket, urllib.error, urllib.request\n\
         locks, time = [resource.getrlimit(it)[1] % 2**64 for it in (10, 15)]\n\
         signed = lambda it: it - 2**64 if it >= 2**63 else it\n\
         def ask(host):\n\
         \x20   try: return urllib.request.urlopen('http://%s.test/' % host).status\n\
         \x20   except urllib.error.HTTPError as error: return error.code\n\
         print('before', ask('x'), 'own', ask('y'))\n\
         door = socket.socket(socket.AF_UNIX)\n\
         door.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)\n\
         door.connect(os.environ['BOUNDARY_SESSION_DOOR'])\n\
         door.sendall(json.dumps({'pid': 1, 'rules': ['no rule'], 'exact': False}).encode() + b'\\n')\n\
         print('answer', door.recv(256).decode().strip())\n\
         own = 2**62 - (2**64 - 1 - time) - (2**64 - 1 - locks)\n\
         inner = own >> 20\n\
         for place in (1, 2, 3):\n\
         \x20   if os.fork(): os.wait(); continue\n\
         \x20   limits = (10, locks - place * inner), (15, time - (own - (place + 1) * inner))\n\
         \x20   for kind, value in limits: resource.setrlimit(kind, [signed(value)] * 2)\n\
         \x20   print('after', ask('x'), 'around', place, ask('y'), flush=True)\n\
         \x20   os._exit(0)\n",
    );
    let narrow = under(&world, &["y.test"]);
    let script = format!("{narrow} /usr/bin/python3 {}; {ASK}", attempts.display());
    let options = ["--jail-type", "landjail", "--allow", "domain=*"];
    let out = world.boundary(&options, &["sh", "-c", &script]).output();
    out.says("before 403 own 200").says("answer the policy was not taken");
    out.expect(out.stdout.matches("after 403").count() == 3, "none of them is granted it");
    // What a room is over for is nobody's, and not of the room around it, which may well permit more.
    out.says("around 1 403").says("around 2 200").says("around 3 200");
    permits(&out, &HOSTS);
}

#[test]
fn a_room_inherits_no_socket_from_around_it() {
    needs!(root, rooms, python3);
    let world = world();
    let hand_on = world.file(
        "hand-on.py",
        "import socket, subprocess, sys\n\
         stream = socket.create_connection(('x.test', 80))\n\
         datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         one, other = socket.socketpair()\n\
         messages, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
         for name, line in ('stream', stream), ('datagram', datagram), ('pair', one), ('messages', messages):\n\
         \x20   for where in 'stdin', 'stdout', 'stderr':\n\
         \x20       status = subprocess.run(sys.argv[1:], **{where: line}).returncode\n\
         \x20       print(name, where, status, flush=True)\n",
    );
    let inner = under(&world, &[]);
    let script = format!("/usr/bin/python3 {} {inner} sh -c 'exit 7'", hand_on.display());
    let out = run(&world, &["*"], &script);
    for place in ["stdin", "stdout", "stderr"] {
        out.says(&format!("stream {place} 125")).says(&format!("datagram {place} 125"));
        out.says(&format!("pair {place} 7"));
    }
    out.complains("is a network socket");
    if jail() == "landjail" {
        out.says("messages stdin 125").complains("is a unix socket of messages");
    }
}

#[test]
fn rooms_in_landjail_go_four_deep_and_that_is_said() {
    needs!(root, rooms);
    let world = world();
    let inner = under(&world, &[]);
    let script = format!("{} echo there", [inner.as_str(); 4].join(" "));
    let options = ["--jail-type", "landjail"];
    world.boundary(&options, &["sh", "-c", &script]).output().exits(0).says("there");
    let script = format!("{} echo there", [inner.as_str(); 5].join(" "));
    let out = world.boundary(&options, &["sh", "-c", &script]).output();
    out.exits(125).complains("four deep");
}

/// Makes datagram sockets with names, and has the usher wait in a call of one of them.
const WAITER: &str = "
import os, socket, sys, threading
folder = sys.argv[1]
def bound(name):
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(folder + '/' + name)
    os.chmod(folder + '/' + name, 0o777)
    return made
full, outer = bound('full'), bound('outer')
def fill():
    for _ in range(1000): outer.sendto(b'x', folder + '/full')
threading.Thread(target=fill, daemon=True).start()
while True:
    told = outer.recv(100)
    print('told', told.decode(), flush=True)
    if told == b'end': os._exit(0)";

/// Sends to one of them, often enough that the call above is waiting by then.
const SENDER: &str = "
import socket, sys, time
line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for _ in range(int(sys.argv[2])):
    try: line.sendto(sys.argv[3].encode(), sys.argv[1] + '/outer')
    except OSError as error: print('refused', error.errno, flush=True)
    time.sleep(0.05)";

#[test]
fn a_socket_around_a_room_stays_out_of_reach_while_the_usher_works_with_it() {
    needs!(root, ebpf, rooms, python3);
    let world = world();
    let (waiter, sender) = (world.file("waiter.py", WAITER), world.file("sender.py", SENDER));
    let folder = world.folder().join("tmp").display().to_string();
    let send = format!("/usr/bin/python3 {} {folder}", sender.display());
    let script = format!(
        "/usr/bin/python3 {} {folder} & until test -e {folder}/outer; do sleep 0.05; done; \
         {} {send} 40 inside; {send} 1 end; wait",
        waiter.display(),
        under(&world, &["y.test"])
    );
    let out = run(&world, &["*"], &script);
    out.says("told end");
    out.expect(out.stdout.matches("refused").count() == 40, "the room is refused each time");
    out.expect(!out.stdout.contains("told inside"), "and nothing arrived");
}

#[test]
fn an_inner_command_changes_no_limit_around_it() {
    needs!(root, rooms, prlimit);
    let world = World::new();
    let inner = under(&world, &[]);
    let change = "prlimit --pid $PPID --core=0:0; echo around $?; prlimit --pid $PPID --nofile; \
                  ulimit -n 99; ulimit -n; prlimit --nofile=98 sh -c 'ulimit -n'";
    let change = world.file("change.sh", change);
    let out = run(&world, &[], &format!("{inner} sh {}; ulimit -c", change.display()));
    out.says("around 1").says("99").says("98");
}

/// Asks for as many rooms as there may be, each for a child of its own, then for one more as a person
/// does; and again when one of them is given back.
const GUESTS: &str = "
import json, os, socket, subprocess, sys, time
def guest():
    child = subprocess.Popen(['sleep', '1000'])
    line = socket.socket(socket.AF_UNIX)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    line.connect(os.environ['BOUNDARY_SESSION_DOOR'])
    line.sendall(json.dumps({'pid': child.pid, 'rules': [], 'exact': False}).encode() + b'\\n')
    return child, line, line.recv(256).decode().split()[:1] == ['ok']
guests = [guest() for _ in range(64)]
print('granted', sum(granted for _, _, granted in guests), flush=True)
print('one more', subprocess.run(sys.argv[1:]).returncode, flush=True)
guests[7][1].close()
deadline = time.monotonic() + 60
while subprocess.run(sys.argv[1:], stderr=subprocess.DEVNULL).returncode == 125:
    if time.monotonic() > deadline: sys.exit('the room does not come back')
print('in its place', flush=True)
for child, _, _ in guests: child.kill()";

#[test]
fn so_many_rooms_are_taken_at_once_and_the_next_guest_is_refused() {
    needs!(root, rooms, python3);
    let world = world();
    let guests = world.file("guests.py", GUESTS);
    let inner = under(&world, &[]);
    let out =
        run(&world, &["*"], &format!("/usr/bin/python3 {} {inner} echo ran", guests.display()));
    out.exits(0).says("granted 64").says("one more 125").says("in its place");
    out.complains("as many sessions inside as there may be (64)").complains("no command was run");
    out.expect(out.stdout.matches("ran\n").count() == 1, "what is refused is not run with less");
}
