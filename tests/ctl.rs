//! A running session is told something: by its user, and never by its command.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::world::needs::needs;
use crate::world::processes::eventually;
use crate::world::{GUEST, Output, Run, Session, World};

/// The number of the session that a keeper keeps.
fn id_of(world: &World, keeper: Pid) -> String {
    let sessions = world.exact(&["ctl", "ps", "--json"]).output();
    let all: Value = serde_json::from_str(&sessions.stdout).expect("JSON");
    let all = all.as_array().expect("a list");
    let own = all.iter().find(|session| session["pid"] == keeper.as_raw());
    sessions.expect(own.is_some(), "the session is listed");
    own.expect("just checked")["id"].as_str().expect("text").to_owned()
}

/// Tells a session something.
fn tell(world: &World, id: &str, words: &[&str]) -> Output {
    world.exact(&[&["ctl", "--session", id], words].concat()).output()
}

#[test]
fn a_reload_holds_for_the_next_request_and_ends_streams_that_it_does_not_grant() {
    needs!(root, bpf, curl);
    let world = World::new();
    let stream = "allowlist: [proto=tcp host=allowed.test port=7]\n";
    let file = world.file("policy.yaml", stream);
    let go = world.folder().join("go");
    let script = format!(
        "ask() {{ curl -s -o /dev/null -w \"$1 %{{http_code}}\\n\" http://four.test/; }}
        exec 3<>/dev/tcp/allowed.test/7; echo hello >&3; read -r line <&3; echo relay $line
        ask before; until [ -e {0} ]; do sleep 0.05; done; ask after
        read -r -t 30 line <&3; echo ended $?",
        go.display()
    );
    let options = ["--config", file.to_str().expect("our own name")];
    let session = world.boundary(&options, &["bash", "-c", &script]).start();
    session.wait_for("before 403");
    let id = id_of(&world, session.pid());
    fs::write(&file, "allowlist: [domian=four.test]\n").expect("written");
    let told = tell(&world, &id, &["reload"]);
    told.exits(1).says("domian").says("stays in force");
    fs::write(&file, "allowlist: [domain=four.test]\n").expect("written");
    tell(&world, &id, &["reload"]).exits(0).says("1 rule in force");
    fs::write(&go, "").expect("written");
    let out = session.finish();
    out.exits(0).says("relay hello").says("after 200").says("ended 1");
    let changed = out.record(&[("event", "policy"), ("cause", "reload")]);
    out.expect(changed["rules"] == json!(["domain=four.test"]), "what it is now is on record");
}

/// The proxy of a keeper.
fn proxy_of(keeper: Pid) -> Pid {
    let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"));
    let children = children.expect("its children");
    let is_proxy = |pid: &&str| {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|it| it.trim() == "boundary-proxy")
    };
    let proxy = children.split_whitespace().find(is_proxy).expect("the proxy");
    Pid::from_raw(proxy.parse().expect("a number"))
}

/// How many rules are in force in a session.
fn rules(world: &World, id: &str) -> Value {
    let sessions = tell(world, id, &["ps", "--json"]);
    let all: Value = serde_json::from_str(&sessions.stdout).expect("JSON");
    all[0]["rules"].clone()
}

#[test]
fn a_hangup_of_the_proxy_is_a_reload_too() {
    needs!(root, bpf);
    let world = World::new();
    let file = world.file("policy.yaml", "allowlist: [domain=four.test]\n");
    let options = ["--config", file.to_str().expect("our own name")];
    let options = [&["--jail-type", "ebpf"], &options[..]].concat();
    let session = world.boundary(&options, &["sh", "-c", "echo ready; exec sleep 1000"]).start();
    session.wait_for("ready");
    let id = id_of(&world, session.pid());
    fs::write(&file, "allowlist: [domain=four.test, domain=six.test]\n").expect("written");
    kill(proxy_of(session.pid()), Signal::SIGHUP).expect("it is there");
    eventually("the policy is read again", || rules(&world, &id) == 2);
    tell(&world, &id, &["stop"]).exits(0).says("stopped");
    session.finish().exits(143);
}

#[test]
fn a_hangup_changes_nothing_where_the_command_may_have_sent_it() {
    needs!(root);
    let world = World::new();
    let file = world.file("policy.yaml", "allowlist: [domain=four.test]\n");
    let logs = world.folder().join("own");
    let [file_name, logs_name] = [&file, &logs].map(|it| it.to_str().expect("our own name"));
    let options = ["--jail-type", "landjail", "--config", file_name, "--log-dir", logs_name];
    let session = world.boundary(&options, &["sh", "-c", "echo ready; exec sleep 1000"]).start();
    session.wait_for("ready");
    let id = id_of(&world, session.pid());
    fs::write(&file, "allowlist: [domain=four.test, domain=six.test]\n").expect("written");
    kill(proxy_of(session.pid()), Signal::SIGHUP).expect("it is there");
    let is_told = || {
        let files = fs::read_dir(&logs).into_iter().flatten().flatten();
        let mut texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
        texts.any(|text| text.contains("a hangup reloads nothing"))
    };
    eventually("that is told", is_told);
    assert_eq!(rules(&world, &id), 1);
    tell(&world, &id, &["reload", "--replaced"]).exits(0).says("2 rules");
    tell(&world, &id, &["stop"]).exits(0).says("stopped");
    session.finish().exits(143);
}

/// Whoever replaces a policy's file from outside takes off what keeps the command from it, and a file
/// that is included is a policy's file too.
#[test]
fn what_the_command_may_have_written_is_not_the_policy_after_a_reload() {
    needs!(root, bpf, userns);
    for jail in ["ebpf", "nsjail"] {
        for replaced in ["policy.yaml", "more.yaml"] {
            replace(jail, replaced);
        }
    }
}

/// Has somebody outside replace one of two files, and the command write to both.
fn replace(jail: &str, replaced: &str) {
    let world = World::new();
    let main = "include: [./more.yaml]\nallowlist:\n  - domain=four.test\n";
    let files = [("policy.yaml", main), ("more.yaml", "allowlist:\n  - domain=six.test\n")]
        .map(|(name, text)| world.file(name, text));
    let go = world.folder().join("go");
    let [policy, more] = files.each_ref().map(|file| file.to_str().expect("our own name"));
    let script = format!(
        "add() {{ for file in {policy} {more}; do echo '  - domain=*' >> $file && echo $1 $file; done; }}
        add early; echo tried; until [ -e {} ]; do sleep 0.05; done; add late; echo added
        exec sleep 1000",
        go.display()
    );
    let options = ["--jail-type", jail, "--config", policy];
    let session = world.boundary(&options, &["bash", "-c", &script]).start();
    session.wait_for("tried");
    let id = id_of(&world, session.pid());
    tell(&world, &id, &["reload"]).exits(0).says("2 rules in force");
    let file = world.folder().join(replaced);
    let new = world.folder().join("new.yaml");
    fs::copy(&file, &new).expect("copied");
    fs::rename(&new, &file).expect("renamed");
    fs::write(&go, "").expect("written");
    session.wait_for("added");
    let told = tell(&world, &id, &["reload"]);
    told.exits(1).says(replaced).says("--replaced").says("stays in force");
    assert_eq!(rules(&world, &id), 2, "{jail} {replaced}");
    // Whoever has looked at it may say so, once.
    tell(&world, &id, &["reload", "--replaced"]).exits(0).says("3 rules in force");
    tell(&world, &id, &["reload"]).exits(1);
    tell(&world, &id, &["stop"]).exits(0).says("stopped");
    let out = session.finish();
    out.exits(143).says(&format!("late {}", file.display()));
    out.expect(!out.stdout.contains("early"), "files in force are not written");
    let late = out.stdout.matches("late ").count();
    out.expect(late == 1, "nor is the one that is as it was");
}

/// What only root can write, nor give its name to anything else, a user's command has not written: it is
/// taken though somebody has replaced it. Where the folder is a user's, it is not.
#[test]
fn what_only_root_can_have_replaced_is_the_policy_after_a_reload() {
    needs!(root, userns, setpriv);
    let world = World::new();
    let line = "umask 022; chmod 755 /run; mkdir -p /run/policies; cd /run/policies; \
                echo \"$0\" >new; mv new policy.yaml";
    let replace = |rules: &str| {
        let text = format!("allowlist: [{rules}]");
        world.bare(&["sh", "-ec", line, &text]).output().exits(0);
    };
    replace("domain=four.test");
    let options = ["--jail-type", "nsjail", "--config", "/run/policies/policy.yaml"];
    let script = "echo ready; exec sleep 1000";
    let run = world.boundary(&options, &["sh", "-c", script]).through_sudo();
    let session = run.start();
    session.wait_for("ready");
    let id = id_of(&world, session.pid());
    replace("domain=four.test, domain=six.test");
    tell(&world, &id, &["reload"]).exits(0).says("2 rules in force");
    world.bare(&["chown", &GUEST.to_string(), "/run/policies"]).output().exits(0);
    replace("domain=four.test, domain=six.test, domain=x.test");
    let told = tell(&world, &id, &["reload"]);
    told.exits(1).says("policy.yaml").says("--replaced").says("stays in force");
    assert_eq!(rules(&world, &id), 2);
    tell(&world, &id, &["stop"]).exits(0).says("stopped");
    session.finish().exits(143);
}

/// A mount is on one name of a file.
#[test]
fn what_the_command_writes_by_another_name_is_not_the_policy_after_a_reload() {
    needs!(root, userns);
    let world = World::new();
    let file = world.file("policy.yaml", "allowlist:\n  - domain=four.test\n");
    let second = world.folder().join("second");
    fs::hard_link(&file, &second).expect("linked");
    let script =
        format!("echo '  - domain=*' >> {} && echo added; exec sleep 1000", second.display());
    let options = ["--jail-type", "nsjail", "--config", file.to_str().expect("our own name")];
    let session = world.boundary(&options, &["sh", "-c", &script]).start();
    session.wait_for("added");
    is_taken_only_where_that_is_meant(&world, session);
}

/// To a user's command in landjail files are what they are outside.
#[test]
fn what_is_edited_in_place_is_the_policy_in_landjail_only_where_that_is_meant() {
    needs!(root);
    let world = World::new();
    let file = world.file("policy.yaml", "allowlist:\n  - domain=four.test\n");
    let options = ["--jail-type", "landjail", "--config", file.to_str().expect("our own name")];
    let script = "echo ready; exec sleep 1000";
    let session = world.boundary(&options, &["sh", "-c", script]).start();
    session.wait_for("ready");
    tell(&world, &id_of(&world, session.pid()), &["reload"]).exits(0).says("1 rule in force");
    let longer = "allowlist:\n  - domain=four.test\n  - domain=*\n";
    fs::write(&file, longer).expect("written");
    is_taken_only_where_that_is_meant(&world, session);
}

/// Reloads a policy that has one more rule than at the start, first without saying so.
fn is_taken_only_where_that_is_meant(world: &World, session: Session<'_>) {
    let id = id_of(world, session.pid());
    let told = tell(world, &id, &["reload"]);
    told.exits(1).says("policy.yaml").says("--replaced").says("stays in force");
    assert_eq!(rules(world, &id), 1);
    tell(world, &id, &["reload", "--replaced"]).exits(0).says("2 rules in force");
    tell(world, &id, &["stop"]).exits(0).says("stopped");
    session.finish().exits(143);
}

/// Poses as a session at a folder, and says that another process keeps it.
const POSE: &str = "
import json, os, socket, sys
folder, victim = sys.argv[1], int(sys.argv[2])
os.makedirs(folder + '/control')
s = socket.socket(socket.AF_UNIX)
s.bind(folder + '/control/socket'); s.listen(9)
print('posing', flush=True)
told = {'id': 'zz-fake', 'pid': victim, 'jail': 'ebpf', 'command': '\\x1b]0;owned\\x07',
        'rules': 3, 'generation': 0, 'learning': False}
denied = {'sequence': 1, 'asked': 'GET http://x/\\x1b]0;owned\\x07\\x9b2J', 'code': '\\x1b[2J',
          'rule': 'path=/\\x1b[8m\\x7f'}
while True:
    line, _ = s.accept()
    try:
        asked = line.recv(4096)
        answer = {'denied': [denied]} if b'denied' in asked else {'session': told}
        if asked: line.sendall(json.dumps(answer).encode() + b'\\n')
    except OSError: pass
    line.close()";

/// Has somebody pose as a session, looks for it and tries to stop it, as the same user.
fn pose<'w>(
    world: &'w World,
    run: impl FnOnce(&[&str]) -> Run<'w>,
    folder: &str,
) -> (Output, Output) {
    let victim = world.bare(&["sleep", "1000"]).start();
    let run = run(&["python3", "-c", POSE, folder, &victim.pid().to_string()]);
    let is_guests = folder.starts_with("/tmp");
    let session = run.start();
    session.wait_for("posing");
    let tell = |words: &[&str]| {
        let told = world.exact(&[&["ctl", "--session", "zz"], words].concat());
        if is_guests { as_guest(told).output() } else { told.output() }
    };
    let shown = [&["ps", "--json"][..], &["denied"], &["denied", "--json"]].map(tell);
    let (seen, stopped) = (tell(&["ps"]), tell(&["stop"]));
    let is_alive = kill(victim.pid(), None).is_ok();
    victim.kill();
    drop(victim.finish());
    session.kill();
    drop(session.finish());
    // The host's `/run` is its own.
    let left = folder.to_owned();
    let it_posed = world.host().run(move || fs::remove_dir_all(left).is_ok());
    seen.expect(it_posed, "its socket was there all the time");
    seen.expect(is_alive, "who was named lives");
    for out in shown.iter().chain([&seen]) {
        let moves = ['\x1b', '\x07', '\x7f', '\u{9b}'];
        out.expect(!out.stdout.contains(moves), "nothing moves a cursor");
    }
    let is_shown = seen.stdout.contains("zz-fake");
    for out in &shown {
        out.expect(out.stdout.contains("owned") == is_shown, "it is heard by all, or by none");
    }
    (seen, stopped)
}

/// As the guest, who has no right that others lack.
fn as_guest(run: Run<'_>) -> Run<'_> {
    let id = GUEST.to_string();
    run.under(&["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"])
}

#[test]
fn no_command_passes_for_a_session() {
    needs!(root, bpf, userns, python3, setpriv);
    let world = World::new();
    for jail in ["ebpf", "nsjail", "landjail"] {
        let jailed = |line: &[&str]| world.boundary(&["--jail-type", jail], line);
        let (seen, stopped) = pose(&world, jailed, "/run/boundary-zz");
        seen.exits(125).expect(!seen.stdout.contains("zz-fake"), jail);
        stopped.expect(!stopped.stdout.contains("stopped"), jail);
    }
    for jail in ["nsjail", "landjail"] {
        let folder = format!("/tmp/boundary-zz{jail}{}", std::process::id());
        let jailed = |line: &[&str]| as_guest(world.boundary(&["--jail-type", jail], line));
        let (seen, stopped) = pose(&world, jailed, &folder);
        seen.exits(125).expect(!seen.stdout.contains("zz-fake"), jail);
        stopped.expect(!stopped.stdout.contains("stopped"), jail);
    }
}

#[test]
fn who_answers_is_the_one_that_is_shown_and_stopped() {
    needs!(root, python3);
    let world = World::new();
    // No command: as free as whoever asks. It is what it says of itself that counts for nothing.
    let (seen, stopped) = pose(&world, |line| world.bare(line), "/run/boundary-zz");
    seen.exits(0).says("zz-fake").says("\\u{1b}");
    stopped.exits(0).says("stopped");
}

#[test]
fn what_was_denied_is_permitted_by_its_number() {
    needs!(root, bpf, curl);
    let world = World::new();
    let record = world.folder().join("own.jsonl");
    let go = world.folder().join("go");
    let script = format!(
        "ask() {{ curl -s -o /dev/null -w \"$1 %{{http_code}}\\n\" http://four.test/$2; }}
        ask before a; until [ -e {} ]; do sleep 0.05; done; ask after a; ask other b",
        go.display()
    );
    let options = ["--audit-log", record.to_str().expect("our own name")];
    let session = world.boundary(&options, &["bash", "-c", &script]).start();
    session.wait_for("before 403");
    let id = id_of(&world, session.pid());
    let number = number_of(&record, "no_rule");
    let denied = tell(&world, &id, &["denied"]);
    denied.exits(0).says(&number).says("no_rule  GET http://four.test/a").says("path=/a");
    let other = ["allow", &number, "method=PUT domain=four.test"];
    tell(&world, &id, &other).exits(1).says("does not permit").says("method");
    tell(&world, &id, &["allow", "999999"]).exits(1).says("no request was denied");
    tell(&world, &id, &["allow", &number]).exits(0).says("path=/a");
    tell(&world, &id, &["allow", "--save", &number])
        .exits(1)
        .says("not saved")
        .says("no policy file");
    // A reload keeps it.
    tell(&world, &id, &["reload"]).exits(0);
    fs::write(&go, "").expect("written");
    session.finish().exits(0).says("after 200").says("other 403");
}

/// The number of the first denial with a code, when it is on record.
fn number_of(record: &Path, code: &str) -> String {
    let number = || {
        let lines = fs::read_to_string(record).unwrap_or_default();
        let mut lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|record| record["code"] == code).map(|it| it["sequence"].to_string())
    };
    eventually("the denial is on record", || number().is_some());
    number().expect("just seen")
}

#[test]
fn a_rule_that_would_permit_nothing_is_not_told_to_permit_it() {
    needs!(root, bpf, rooms, curl);
    let world = World::new();
    world.name("own.test", &["127.0.0.1"]);
    let record = world.folder().join("own.jsonl");
    let boundary = world.exact(&[]).words().remove(0);
    let go = world.folder().join("go");
    let script = format!(
        "curl -s -o /dev/null http://own.test/
        {boundary} --allow domain=own.test -- curl -s -o /dev/null http://four.test/inside
        echo asked; until [ -e {} ]; do sleep 0.05; done",
        go.display()
    );
    let options =
        ["--allow", "domain=own.test", "--audit-log", record.to_str().expect("our own name")];
    let session = world.boundary(&options, &["bash", "-c", &script]).start();
    session.wait_for("asked");
    let id = id_of(&world, session.pid());
    let number = number_of(&record, "address_refused");
    let rule = ["allow", &number, "host=own.test"];
    tell(&world, &id, &rule).exits(1).says("does not name 127.0.0.1");
    tell(&world, &id, &["allow", &number]).exits(0).says("host=own.test,127.0.0.1");
    let number = number_of(&record, "no_rule");
    tell(&world, &id, &["allow", &number]).exits(1).says("a policy inside this session");
    fs::write(&go, "").expect("written");
    session.finish().exits(0);
}

#[test]
fn the_command_of_no_jail_reaches_the_control_socket() {
    needs!(root, bpf, python3);
    let world = World::new();
    let script = "
import glob, os, socket
for path in glob.glob('/run/boundary-*/control/socket') + glob.glob('/tmp/boundary-*/control/socket'):
    s = socket.socket(socket.AF_UNIX)
    try:
        s.connect(path); s.sendall(b'{\"ask\":\"ps\"}\\n'); answer = s.recv(99)
        if answer: print('reached', path, answer)
    except OSError as error:
        pass
print('tried')";
    let boundary = world.exact(&[]).words()[0].clone();
    for jail in ["ebpf", "nsjail", "landjail"] {
        let both = format!("{boundary} ctl ps --json && python3 -c \"$SCRIPT\"");
        let run = world.boundary(&["--jail-type", jail], &["sh", "-c", &both]);
        let out = run.env("SCRIPT", script).output();
        out.exits(0).says("[]").says("tried");
        out.expect(!out.stdout.contains("reached"), jail);
    }
}

/// Whoever does not heed the signal is killed; boundary itself ends as always, and writes its record.
#[test]
fn a_command_that_ignores_a_stop_is_killed_and_the_record_has_its_end() {
    needs!(root, bpf, userns);
    for jail in ["ebpf", "nsjail", "landjail"] {
        let world = World::new();
        let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
        let session = world.boundary(&["--jail-type", jail], &["sh", "-c", script]).start();
        session.wait_for("ready");
        let id = id_of(&world, session.pid());
        tell(&world, &id, &["stop"]).exits(0).says("killed");
        let out = session.finish();
        let code = out.status.and_then(|status| status.code());
        out.expect(code == Some(137), "it ends by itself, with the command's status");
        let is_ended = out.session.iter().any(|record| record["event"] == "end");
        out.expect(is_ended, "the record has its end");
    }
}

/// Calls the session of this world as often as it may be at once, and once more; says what came of it.
const CALLERS: &str = "
import glob, socket, sys, time
path, = glob.glob('/run/boundary-*/control/socket')
def call():
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(30)
    line.connect(path)
    return line
def ask(line):
    try:
        line.sendall(b'{\"ask\":\"ps\"}\\n')
        return line.recv(1) == b'{'
    except (BrokenPipeError, ConnectionResetError): return False
waiting = [call() for _ in range(16)]
print('one more', ask(call()), flush=True)
print('the first', [ask(line) for line in waiting].count(True), flush=True)
deadline = time.monotonic() + 30
while not ask(call()):
    if time.monotonic() > deadline: sys.exit('the room does not come back')
print('room again')";

#[test]
fn sixteen_may_call_at_once_and_the_next_is_turned_away() {
    needs!(root, bpf, python3);
    let world = World::new();
    let session = world.boundary(&[], &["sh", "-c", "echo ready; exec sleep 1000"]).start();
    session.wait_for("ready");
    let out = world.bare(&["python3", "-c", CALLERS]).output();
    session.kill();
    drop(session.finish());
    out.exits(0).says("one more False").says("the first 16").says("room again");
}
