//! Signals in the jail without a process namespace: they reach whoever is of the session, as they would
//! without boundary, and nobody else. Landlock sees to it where it has a scope for them (Linux 6.12), the
//! usher elsewhere. And those that a terminal sends, or a group gets, in every jail.

use std::fs;

use crate::world::needs::needs;
use crate::world::{GUEST, Run, World, jail};

/// A run as somebody.
type As = for<'a> fn(&'a World, Run<'a>) -> Run<'a>;

/// Whoever may run it.
const EVERYBODY: [As; 2] = [by_guest, by_root];

/// The guest, who has no right that others lack.
fn by_guest<'a>(_: &'a World, run: Run<'a>) -> Run<'a> {
    let id = GUEST.to_string();
    run.under(&[
        "setpriv",
        "--reuid",
        &id,
        "--regid",
        &id,
        "--clear-groups",
        "--bounding-set",
        "-all",
    ])
}

/// Root.
fn by_root<'a>(_: &'a World, run: Run<'a>) -> Run<'a> {
    run
}

/// A command in the jail.
fn bounded<'a>(world: &'a World, command: &[&str]) -> Run<'a> {
    world.boundary(&["--jail-type", "landjail"], command)
}

/// A program in Python, with the calls that it makes beside it.
fn program(world: &World, name: &str, text: &str) -> String {
    world.file("calls.py", include_str!("calls.py"));
    world.file(name, text).to_str().expect("our own name").to_owned()
}

/// Whether a process runs, and has not ended without being collected.
fn runs(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// Becomes a process that waits, in a group of its own: what is sent to that is meant for nobody else.
const VICTIM: &str = "import os; os.setpgid(0, 0); print('ready', flush=True); \
    os.execvp('sleep', ['sleep', '1000'])";

#[test]
fn no_signal_leaves_the_session_in_any_way() {
    needs!(root, privilege, landlock, python3, setpriv);
    let world = World::new();
    let outward = program(&world, "outward.py", include_str!("outward.py"));
    for by in EVERYBODY {
        let victim = by(&world, world.bare(&["python3", "-c", VICTIM])).start();
        victim.wait_for("ready");
        let pid = victim.pid().as_raw();
        let out = by(&world, bounded(&world, &["python3", &outward, &pid.to_string()])).output();
        out.exits(0);
        // On each process two signals, eight ways, from the first thread and another; and one group.
        let attempts =
            out.stdout.lines().find_map(|line| line.strip_prefix("attempts ")?.parse().ok());
        let refused = out.stdout.lines().filter(|line| line.ends_with(" EPERM")).count();
        out.expect(
            attempts.is_some_and(|attempts: usize| attempts + 1 == refused),
            "each is refused, the empty one too",
        );
        out.says("nobody ESRCH\nown group reached\nheard ['own']\nb'sss'\n");
        out.says("everybody reached\nwent on 7\n");
        out.expect(runs(pid), "whoever is outside goes on");
        victim.kill();
    }
}

#[test]
fn signals_inside_behave_as_they_do_without_it() {
    needs!(root, privilege, landlock, python3, bash, setpriv);
    let world = World::new();
    let manners = program(&world, "signals.py", include_str!("signals.py"));
    let command = ["python3", manners.as_str()];
    let without = world.bare(&command).output();
    without.exits(0).says("end");
    for by in EVERYBODY {
        let out = by(&world, bounded(&world, &command)).output();
        let is_same = out.stdout == without.stdout;
        out.exits(0).expect(is_same, &format!("as without boundary:\n{}", without.stdout));
    }
}

/// Has the terminal send its foreground, in which boundary is, what ends whoever does not ignore it, as soon
/// as somebody types. Where no other signal can be chosen it is `SIGIO`.
const ARMED: &str = "
import fcntl, os, signal
for ignored in (signal.SIGRTMIN, signal.SIGIO): signal.signal(ignored, signal.SIG_IGN)
for fd in (os.open('/dev/tty', os.O_RDONLY), 0):
    for step in (
        lambda: fcntl.fcntl(fd, 10, signal.SIGRTMIN),
        lambda: fcntl.fcntl(fd, fcntl.F_SETFL, os.O_ASYNC),
    ):
        try: step()
        except PermissionError: pass
print('armed', flush=True)
print('read', input(), flush=True)
input()";

#[test]
fn a_terminal_sends_nothing_to_boundary_for_the_command_in_ebpf() {
    needs!(root, privilege, bpf, python3, setsid);
    // A user has this jail by sudo, and the kernel sends nothing of his to boundary, which is root then.
    a_terminal_sends_nothing_to_boundary("ebpf", &[by_root]);
}

#[test]
fn a_terminal_sends_nothing_to_boundary_for_the_command_in_nsjail() {
    needs!(root, privilege, userns, python3, setsid, setpriv);
    a_terminal_sends_nothing_to_boundary("nsjail", &EVERYBODY);
}

#[test]
fn a_terminal_sends_nothing_to_boundary_for_the_command_in_landjail() {
    needs!(root, privilege, landlock, python3, setsid, setpriv);
    a_terminal_sends_nothing_to_boundary("landjail", &EVERYBODY);
}

/// A command that arms its terminal runs on, and boundary with it, when somebody types.
fn a_terminal_sends_nothing_to_boundary(jail: &str, whoever: &[As]) {
    let world = World::new();
    for by in whoever {
        let run = world.boundary(&["--jail-type", jail], &["python3", "-c", ARMED]);
        let (session, mut terminal) = by(&world, run).on_terminal();
        terminal.wait_for("armed");
        terminal.type_in("one\n");
        terminal.wait_for("read one");
        terminal.type_in("two\n");
        session.finish().exits(0);
    }
}

/// Signals its group, in which boundary is, with what that would end by; and then groups of its own.
const GROUPS: &str = "
import os, signal, time
signal.signal(signal.SIGALRM, signal.SIG_IGN)
try: os.kill(0, signal.SIGALRM)
except PermissionError: pass
for number in (signal.SIGALRM, signal.SIGKILL):
    if not (child := os.fork()):
        os.setpgid(0, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        if not os.fork(): time.sleep(1000)
        os.kill(0, number)
        os._exit(0)
    print('ended', os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)";

#[test]
fn boundary_is_in_the_commands_group_and_goes_on_when_that_is_signalled_in_ebpf() {
    needs!(root, privilege, bpf, python3, setsid);
    boundary_goes_on_when_its_group_is_signalled("ebpf", &[by_root]);
}

#[test]
fn boundary_is_in_the_commands_group_and_goes_on_when_that_is_signalled_in_nsjail() {
    needs!(root, privilege, userns, python3, setsid, setpriv);
    boundary_goes_on_when_its_group_is_signalled("nsjail", &EVERYBODY);
}

#[test]
fn boundary_is_in_the_commands_group_and_goes_on_when_that_is_signalled_in_landjail() {
    needs!(root, privilege, landlock, python3, setsid, setpriv);
    boundary_goes_on_when_its_group_is_signalled("landjail", &EVERYBODY);
}

/// A command that signals its group runs on, and boundary with it.
fn boundary_goes_on_when_its_group_is_signalled(jail: &str, whoever: &[As]) {
    let world = World::new();
    for by in whoever {
        let run = world.boundary(&["--jail-type", jail], &["python3", "-c", GROUPS]);
        // Or the test itself would be in that group.
        let out = by(&world, run).under(&["setsid", "--wait"]).output();
        out.exits(0).says("ended -14\nended -9\n");
    }
}

#[test]
fn an_inner_session_signals_nobody_around_it_and_is_signalled_by_them() {
    needs!(root, privilege, landlock, setpriv);
    let world = World::new();
    let inner = world.exact(&["--", "sh", "-c"]).words().join(" ");
    let script = format!(
        "sleep 1000 & around=$!; {inner} \
         'for pid in '$around' $PPID '$$'; do kill -0 $pid 2>/dev/null; echo out $?; done; \
          sleep 1000 & kill $!; wait $!; echo own $?; kill 0; echo left'; echo inner $?; \
         {inner} 'echo $$ >inner; exec sleep 1000' & \
         until test -s inner; do sleep 0.05; done; kill -9 $(cat inner); wait $!; echo ended $?; \
         kill $around; wait $around; echo around $?"
    );
    for by in EVERYBODY {
        let folder = world.folder().join("tmp");
        let script = format!("cd {}; rm -f inner; {script}", folder.display());
        let out = by(&world, bounded(&world, &["sh", "-c", &script])).output();
        out.exits(0).says("out 1\nout 1\nout 1\nown 143\n").says("inner 143\n");
        out.says("ended 137\naround 143\n");
    }
}

/// Becomes a program for which nobody collects its children.
const CHILDLESS: &str = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); \
    os.execvp(sys.argv[1], sys.argv[1:])";

#[test]
fn who_ignores_its_children_has_sessions_too_and_its_command_ignores_them() {
    needs!(root, bpf, python3);
    let world = World::new();
    let [childless, shown] =
        [["python3", "-c", CHILDLESS], ["grep", "SigIgn", "/proc/self/status"]];
    let ignores = |text: &str| {
        let set = text.split_ascii_whitespace().nth(1).map(|set| u64::from_str_radix(set, 16));
        set.is_some_and(|set| set.is_ok_and(|set| set >> 16 & 1 == 1))
    };
    let out = world.boundary(&[], &shown).output();
    out.exits(0).expect(!ignores(&out.stdout), "nobody ignores them");
    let out = world.boundary(&[], &shown).under(&childless).output();
    out.exits(0).expect(ignores(&out.stdout), "the command is as it would be without boundary");
    if jail() == "nsjail" {
        return;
    }
    // A session inside another.
    let inner = world.exact(&["--"]).words();
    let inner = childless.iter().copied().chain(inner.iter().map(String::as_str)).chain(shown);
    let out = world.boundary(&[], &inner.collect::<Vec<_>>()).output();
    out.exits(0).expect(ignores(&out.stdout), "and inside another session");
}
