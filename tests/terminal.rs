//! A person at a terminal: job control, Ctrl-C, and the window's size, as if boundary were not there.

use crate::world::needs::needs;
use crate::world::processes::eventually;
use crate::world::terminal::Terminal;
use crate::world::{Session, World};

/// An interactive shell on a terminal, with a function `bounded` that runs its arguments.
fn shell(world: &World) -> (Session<'_>, Terminal) {
    let bounded = world.boundary(&["--allow", "domain=allowed.test"], &[]).words();
    let bounded = bounded.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let rc = world.file("rc", &format!("PS1='shell> '; bounded() {{ {bounded} \"$@\"; }}\n"));
    let rc = rc.to_str().expect("our own name");
    let bash = ["bash", "--noprofile", "--rcfile", rc, "-i"];
    let (session, terminal) = world.bare(&bash).on_terminal();
    terminal.wait_for("shell> ");
    (session, terminal)
}

#[test]
fn an_interrupt_from_the_keyboard_reaches_the_command_and_not_the_shell() {
    needs!(root, bpf, bash, setsid);
    let world = World::new();
    let (session, mut terminal) = shell(&world);
    terminal.type_in(&format!("bounded {} signals 1; echo it was $?.\n", world.attack()));
    terminal.wait_for("ready");
    terminal.type_in("\x03");
    terminal.wait_for("signal INT");
    terminal.wait_for("it was 0.");
    terminal.type_in("bounded sleep 1000\n");
    world.process("sleep");
    terminal.type_in("\x03");
    terminal.type_in("echo then $?.\n");
    terminal.wait_for("then 130.");
    terminal.type_in("exit 0\n");
    session.finish().exits(0);
}

#[test]
fn a_stopped_command_goes_to_the_background_and_comes_back() {
    needs!(root, bpf, bash, setsid);
    let world = World::new();
    let (session, mut terminal) = shell(&world);
    terminal.type_in("bounded cat\n");
    world.process("cat");
    terminal.type_in("one\n");
    terminal.wait_for("one\r\none\r\n");
    terminal.type_in("\x1a");
    terminal.wait_for("Stopped");
    terminal.type_in("echo the shell $((40+2))\n");
    terminal.wait_for("the shell 42");
    terminal.type_in("fg\n");
    eventually("the command goes on", || world.process("cat").state == 'S');
    terminal.type_in("two\n");
    terminal.wait_for("two\r\ntwo\r\n");
    terminal.type_in("\x04");
    terminal.type_in("echo ended $?.\n");
    terminal.wait_for("ended 0.");
    terminal.type_in("exit 0\n");
    session.finish().exits(0);
}

#[test]
fn a_new_window_size_reaches_the_command() {
    needs!(root, bpf, setsid);
    let world = World::new();
    let command = [world.attack(), "signals", "1"];
    let (session, terminal) = world.boundary(&[], &command).on_terminal();
    terminal.wait_for("ready");
    terminal.resize(50);
    terminal.wait_for("signal WINCH 50x80");
    session.finish().exits(0);
}

#[test]
fn the_command_has_the_terminal() {
    needs!(root, bpf, setsid);
    let world = World::new();
    let script = "test -t 0 && test -t 1 && test -t 2 && tty && stty size </dev/tty";
    let (session, terminal) = world.boundary(&[], &["sh", "-c", script]).on_terminal();
    terminal.wait_for("24 80");
    let out = session.finish();
    out.exits(0).expect(!terminal.text().contains("not a tty"), "tty(1) names it");
}

/// Draws like a full-screen program does, asks for something that is refused, waits for a key, and gives
/// the terminal back.
const DRAW: &str = "stty -icanon -echo min 1; echo drawing; \
    curl -sS -o /dev/null http://denied.test/; echo asked; head -c 1 >/dev/null; \
    echo done; stty icanon echo";

#[test]
fn a_full_screen_program_has_the_terminal_to_itself() {
    needs!(root, bpf, curl, setsid, bash);
    let world = World::new();
    let audit = world.folder().join("seen.jsonl");
    let options = ["--audit-log", audit.to_str().expect("our own name")];
    let (session, mut terminal) = world.boundary(&options, &["bash", "-c", DRAW]).on_terminal();
    terminal.wait_for("asked");
    eventually("the refusal is on record", || {
        std::fs::read_to_string(&audit).is_ok_and(|text| text.contains("http://denied.test/"))
    });
    assert!(!terminal.text().contains("msg=DENY"), "{}", terminal.text());
    terminal.type_in("x");
    terminal.wait_for("msg=DENY");
    session.finish().exits(0);
    let text = terminal.text();
    let places = ["done", "msg=DENY"].map(|word| text.find(word));
    assert!(places[0].is_some() && places[0] < places[1], "told when it had ended: {text}");
}

/// Not with the next line, nor at the end: the session goes on until it was told.
#[test]
fn what_was_held_back_is_told_when_the_program_has_ended() {
    needs!(root, bpf, curl, setsid, bash);
    let world = World::new();
    let script = format!("{DRAW}; head -n 1");
    let (session, mut terminal) = world.boundary(&[], &["bash", "-c", &script]).on_terminal();
    terminal.wait_for("asked");
    terminal.type_in("x");
    terminal.wait_for("msg=DENY");
    terminal.type_in("later\n");
    session.finish().exits(0);
}

#[test]
fn who_asks_for_lines_has_them_whoever_draws() {
    needs!(root, bpf, curl, setsid, bash);
    let world = World::new();
    let run = world.boundary(&["--log-level", "warn"], &["bash", "-c", DRAW]);
    let (session, mut terminal) = run.on_terminal();
    terminal.wait_for("msg=DENY");
    terminal.wait_for("asked");
    terminal.type_in("x");
    session.finish().exits(0);
}

#[test]
fn the_command_hears_that_its_terminal_is_gone() {
    /// Has a program lead the session of a terminal, as ssh, tmux or docker run -t do, and takes that away.
    const AWAY: &str = "
import os, pty, signal, sys
signal.alarm(30)
child, terminal = pty.fork()
if not child: os.execvp(sys.argv[1], sys.argv[1:])
told = b''
while b'ready' not in told: told += os.read(terminal, 99)
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))";
    needs!(root, bpf, python3);
    let world = World::new();
    let script = "trap 'exit 7' HUP; echo ready; sleep 1000 & wait";
    let run = world.boundary(&[], &["sh", "-c", script]).under(&["python3", "-c", AWAY]);
    run.output().exits(7);
}
