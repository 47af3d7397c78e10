//! Through sudo the command is the invoking user's; by root itself it is a root without teeth.

use crate::world::needs::needs;
use crate::world::{CREW, GUEST, World, binary};

#[test]
fn through_sudo_the_command_has_the_users_ids_groups_home_and_shell() {
    needs!(root, bpf, privilege);
    let world = World::new();
    let script = "id -u; id -g; id -G; echo home=$HOME user=$USER shell=$SHELL mail=$MAIL; test -w /etc/passwd || echo tame";
    let run = world.boundary(&[], &["sh", "-c", script]).through_sudo();
    let out = run.env("SHELL", "/bin/roots").env("MAIL", "/var/mail/root").output();
    out.exits(0).says(&format!("{GUEST}\n{GUEST}\n{GUEST} {CREW}\n")).says("tame");
    out.says(" shell=/bin/sh mail=/var/mail/guest\n");
    out.says(&format!("home={}", world.folder().join("home").display()));
}

#[test]
fn through_sudo_the_configuration_is_the_users() {
    needs!(root, bpf, privilege, curl);
    let world = World::new();
    let folder = world.folder().join("home/.config/coder_boundary");
    std::fs::create_dir_all(&folder).expect("the folder is ours");
    let policy = "allowlist:\n  - domain=allowed.test\n";
    std::fs::write(folder.join("config.yaml"), policy).expect("the folder is ours");
    let curl = ["curl", "-sS", "https://allowed.test/"];
    world.boundary(&[], &curl).through_sudo().output().exits(0).says("this is allowed.test");
}

#[test]
fn through_sudo_requests_are_judged_and_recorded_for_the_user() {
    needs!(root, bpf, numbers, curl);
    let world = World::new();
    let url = ["https://allowed.test/", "https://denied.test/"];
    let curl = [&["curl", "-sS"], &url[..]].concat();
    let out = world.boundary(&["--allow", "domain=allowed.test"], &curl).through_sudo().output();
    out.exits(0).says("this is allowed.test").says("Request Blocked by Boundary");
    let uid = GUEST.to_string();
    out.record(&[("decision", "allow"), ("uid", &uid), ("comm", "curl")]);
    out.record(&[("decision", "deny"), ("uid", &uid), ("exe", "/usr/bin/curl")]);
}

#[test]
fn the_core_limit_that_sudo_leaves_is_no_hindrance() {
    needs!(root, bpf);
    let world = World::new();
    let _kept = crate::escape::cores::keep_setting();
    let limited = ["sh", "-c", "ulimit -c 0; exec \"$@\"", "sh"];
    let run = world.boundary(&[], &["sh", "-c", "ulimit -c"]).through_sudo().under(&limited);
    let out = run.output();
    out.exits(0).expect(["0\n", "1\n"].contains(&&*out.stdout), "no core file is to be had");
}

#[test]
fn root_itself_keeps_its_files() {
    needs!(root, bpf, privilege);
    let world = World::new();
    let mine = world.folder().join("mine");
    let script =
        format!("id -u; touch {0} && chown {GUEST} {0} && rm {0} && echo done", mine.display());
    world.boundary(&[], &["sh", "-c", &script]).output().exits(0).says("0\n").says("done");
}

/// Lets a group have the jail `ebpf` without sudo.
const CAPABILITIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/capabilities.sh");

#[test]
fn with_file_capabilities_a_group_has_ebpf_and_what_it_runs_has_no_right() {
    needs!(root, bpf, curl, setcap, setpriv, privilege);
    let world = World::new();
    let copy = world.folder().join("boundary-of-crew").display().to_string();
    let own = binary().display().to_string();
    world.bare(&["install", "-m", "755", &own, &copy]).output().exits(0);
    world.bare(&["sh", CAPABILITIES, "crew", &copy]).output().exits(0);
    let authority = world.folder().join("ca.pem").display().to_string();
    let (guest, crew) = (GUEST.to_string(), CREW.to_string());
    let script = "id -u; grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status; curl -sS https://allowed.test/; \
                  curl -sS http://denied.test/";
    let run = |groups: &[&str]| {
        // Who executes it has lost root's rights, which go with the execution of the shell.
        let shell = ["sh", "-c", "exec \"$0\" \"$@\""];
        let who = [&["setpriv", "--reuid", &guest, "--regid", &guest], groups, &shell].concat();
        let options = ["--jail-type", "ebpf", "--upstream-ca", &authority];
        let rest = ["--allow", "domain=allowed.test", "--", "sh", "-c", script];
        world.bare(&[&who[..], &[&copy], &options, &rest].concat()).output()
    };
    let out = run(&["--groups", &crew]);
    out.exits(0).says(&guest).says("this is allowed.test").says("Request Blocked by Boundary");
    let none = out.stdout.lines().filter(|line| line.ends_with("\t0000000000000000"));
    out.expect(none.count() == 3, "what runs has no capability, and can get none");
    let out = run(&["--clear-groups"]);
    out.expect(out.stdout.is_empty(), "who is not of the group cannot run it");
    world.bare(&["sh", CAPABILITIES, "--off", &copy]).output().exits(0);
    let out = run(&["--clear-groups"]);
    out.exits(125).complains("jail ebpf");
}

#[test]
fn a_program_that_cannot_have_capabilities_is_left_to_everybody() {
    needs!(root, setcap, privilege);
    let world = World::new();
    let copy = world.file("boundary-of-crew", "#!/bin/sh\n");
    let copy = copy.to_str().expect("our own name");
    let (empty, broken) = (world.folder().join("empty"), world.folder().join("broken"));
    let tools =
        "for it in sh id stat chmod chgrp getent echo; do ln -s \"$(command -v $it)\" $0/; done";
    for folder in [&empty, &broken] {
        std::fs::create_dir(folder).expect("the folder is ours");
        let folder = folder.to_str().expect("our own name");
        world.bare(&["sh", "-ec", tools, folder]).output().exits(0);
    }
    let setcap = broken.join("setcap");
    let setcap = setcap.to_str().expect("our own name");
    let cannot = "printf '#!/bin/sh\\nexit 1\\n' >$0 && chmod 755 $0";
    world.bare(&["sh", "-ec", cannot, setcap]).output().exits(0);
    let mine = std::env::var_os("PATH").expect("there is one").into_string().expect("text");
    let path = |folder: &std::path::Path| folder.display().to_string();
    let cases = [
        ("no-such-group", mine, "there is no group no-such-group; make it with: groupadd"),
        ("crew", path(&empty), "setcap is needed"),
        ("crew", path(&broken), "has no capabilities"),
    ];
    for (group, path, why) in cases {
        let line = "chmod 755 $2 && PATH=$0 exec sh \"$1\" \"$3\" $2";
        let words = ["sh", "-c", line, &path, CAPABILITIES, copy, group];
        world.bare(&words).output().exits(1).complains(why);
        let mode = world.bare(&["stat", "-c", "%a %G", copy]).output();
        mode.exits(0).says("755 root");
    }
}
