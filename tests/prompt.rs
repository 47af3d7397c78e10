//! A person, or a program in a person's place, is asked where no rule permits a request.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::world::World;
use crate::world::needs::needs;
use crate::world::terminal::Terminal;

/// Shell: prints a word and the status of a request.
const ASK: &str =
    "ask() { curl -s -o /dev/null -w \"$1 %{http_code} %header{x-boundary-denied}.\\n\" $2; };";

/// The number of the last question on a terminal.
fn number(terminal: &Terminal) -> String {
    let text = terminal.text();
    let (before, _) = text.rsplit_once(" permits it while").expect("a question");
    before.rsplit(' ').next().expect("a number").to_owned()
}

/// A program that answers each line by the arms of a shell's `case`.
fn program(world: &World, arms: &str) -> PathBuf {
    let text = format!(
        "#!/bin/sh\ncd {}\nwhile read -r line; do echo \"$line\" >>asked; case \"$line\" in {arms} \
         esac; done\n",
        world.folder().display()
    );
    world.program("answers", &text)
}

#[test]
fn whoever_sits_at_the_terminal_permits_by_the_number_of_the_question() {
    needs!(root, bpf, curl, setsid);
    let world = World::new();
    let script = format!(
        "{ASK} ask first http://four.test/a; ask again http://four.test/a
        ask second http://four.test/b; ask once-more http://four.test/b
        ask third http://four.test/c; ask last http://four.test/d"
    );
    let (session, mut terminal) =
        world.boundary(&["--prompt"], &["bash", "-c", &script]).on_terminal();
    terminal.wait_for("GET http://four.test/a asked for by curl");
    terminal.wait_for("This rule would: 'method=GET domain=four.test path=/a'");
    terminal.wait_for("boundary> ");
    terminal.type_in("yes\n");
    terminal.wait_for("That is none of");
    terminal.type_in(&format!("{}\n", number(&terminal)));
    terminal.wait_for("first 200 .");
    terminal.wait_for("again 200 .");
    terminal.wait_for("This rule would: 'method=GET domain=four.test path=/b'");
    terminal.type_in("no\n");
    terminal.wait_for("second 403 declined.");
    // A no is remembered too.
    terminal.wait_for("once-more 403 declined.");
    terminal.wait_for("This rule would: 'method=GET domain=four.test path=/c'");
    terminal.type_in("never\n");
    terminal.wait_for("third 403 declined.");
    terminal.wait_for("last 403 declined.");
    let out = session.finish();
    out.exits(0);
    out.record(&[("decision", "allow"), ("matched_rule", "method=GET domain=four.test path=/a")]);
    out.record(&[("decision", "deny"), ("code", "declined"), ("http_url", "http://four.test/b")]);
}

#[test]
fn a_program_answers_in_place_of_a_terminal_and_others_do_not_wait_for_it() {
    needs!(root, bpf, curl, guards);
    let world = World::new();
    let gate = world.folder().join("gate");
    let arms = format!(
        "*/slow*) until [ -e {} ]; do sleep 0.05; done; echo allow;;
         */saved*) echo save;; */silent*) ;; *) echo deny;;",
        gate.display()
    );
    let program = program(&world, &arms);
    let file = world.file("policy.yaml", "allowlist:\n  - domain=six.test\n");
    let script = format!(
        "{ASK} ask slow http://four.test/slow & until [ -s asked ]; do sleep 0.05; done
        ask other http://six.test/; touch {0}; wait
        ask saved https://four.test/saved; ask no http://four.test/no
        echo 'echo allow' >>{1} && echo changed; mv {1} {1}.old && echo moved
        ask silent http://four.test/silent",
        gate.display(),
        program.display()
    );
    let program = program.to_str().expect("our own name");
    let prompt = format!("--prompt={program}");
    let config = file.to_str().expect("our own name");
    let options = ["--config", config, &prompt, "--limit", "prompt_time=20s"];
    let out = world.boundary(&options, &["bash", "-c", &script]).output();
    out.says("slow 200 .").says("other 200 .").says("saved 200 .").says("no 403 declined.");
    out.says("silent 403 declined.");
    let place = |word| out.stdout.find(word).expect("it is said");
    out.expect(place("other 200") < place("slow 200"), "nobody waits for another's answer");
    out.expect(!out.stdout.contains("changed"), "the program cannot be written to");
    out.expect(!out.stdout.contains("moved"), "and nothing put in its place");
    let policy = fs::read_to_string(&file).expect("it is there");
    let rule = "method=GET domain=four.test path=/saved";
    assert_eq!(policy, format!("allowlist:\n  - domain=six.test\n  - {rule}\n"));
    let asked = fs::read_to_string(world.folder().join("asked")).expect("what was asked");
    out.expect(asked.contains(r#""program":"curl""#), &asked);
}

#[test]
fn what_a_program_says_unasked_answers_nothing() {
    needs!(root, bpf, curl, guards);
    let world = World::new();
    let script = "#!/bin/sh\necho ready\nwhile read -r line; do\ncase $line in *four*) \
                  echo allow; echo allow;; *) echo deny;; esac; done\n";
    let program = world.file("chatty", script);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("ours");
    let prompt = format!("--prompt={}", program.display());
    let script = format!(
        "{ASK} sleep 0.5; ask one http://four.test/; sleep 0.5; ask other http://six.test/"
    );
    let out = world.boundary(&[&prompt], &["bash", "-c", &script]).output();
    out.says("one 200 .").says("other 403 declined.");
}

#[test]
fn who_leaves_while_a_question_is_open_was_refused() {
    needs!(root, bpf, python3, guards);
    let world = World::new();
    let program = program(&world, "*) ;;");
    let prompt = format!("--prompt={}", program.display());
    let script = "
import socket, struct, time
s = socket.create_connection(('four.test', 80))
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
s.sendall(b'GET /left HTTP/1.1\\r\\nHost: four.test\\r\\n\\r\\n')
time.sleep(0.5); s.close(); time.sleep(0.5)";
    let out = world.boundary(&[&prompt], &["/usr/bin/python3", "-c", script]).output();
    out.exits(0).record(&[("code", "declined"), ("http_url", "http://four.test/left")]);
}

#[test]
fn bytes_of_any_kind_are_asked_about_too() {
    needs!(root, bpf, guards);
    let world = World::new();
    let program = program(&world, "*tcp*) echo allow;; *) echo deny;;");
    let prompt = format!("--prompt={}", program.display());
    let script = "exec 3<>/dev/tcp/allowed.test/22; head -c 17 <&3; echo";
    let out = world.boundary(&[&prompt], &["bash", "-c", script]).output();
    out.exits(0).says("SSH-2.0-simulated");
    out.record(&[("matched_rule", "proto=tcp host=allowed.test port=22")]);
}

#[test]
fn a_program_that_the_command_could_change_asks_nobody() {
    needs!(root);
    let world = World::new();
    let program = program(&world, "*) echo allow;;");
    let prompt = format!("--prompt={}", program.display());
    let out = world.boundary(&["--jail-type", "landjail", &prompt], &["true"]).output();
    out.exits(125).complains("the command could change the program");
}

#[test]
fn nobody_is_asked_where_there_is_nobody() {
    needs!(root, bpf, curl, setsid);
    let world = World::new();
    let out = world.boundary(&["--prompt"], &["true"]).under(&["setsid", "--wait"]).output();
    out.exits(125).complains("no terminal to ask on").complains("--prompt=/path");
    let out = world.boundary(&["--prompt=/no/such/program"], &["true"]).output();
    out.exits(125).complains("No such file");
}

#[test]
fn a_program_that_ends_denies_and_the_session_goes_on() {
    needs!(root, bpf, curl, guards);
    let world = World::new();
    let script = format!("{ASK} ask one http://four.test/a; ask two http://four.test/b");
    let out = world.boundary(&["--prompt=/bin/true"], &["bash", "-c", &script]).output();
    out.exits(0).says("one 403 declined.").says("two 403 declined.");
}
