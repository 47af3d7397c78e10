//! Which jail there is, and what is said where there is none: `boundary doctor`, `auto`, and a jail
//! that was named.

use std::time::Duration;

use serde_json::Value;

use crate::escape::traces::Ground;
use crate::kernel::has_landlock;
use crate::world::needs::needs;
use crate::world::{GUEST, Output, Run, World};

/// Has the guest start it, who has no right that others lack.
fn as_guest(run: Run<'_>) -> Run<'_> {
    let id = GUEST.to_string();
    run.under(&["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"])
}

/// What the doctor finds, as a program reads it.
#[track_caller]
fn report(out: &Output) -> Value {
    serde_json::from_str(&out.stdout).expect("one JSON object")
}

/// The rows of a report that decide a jail.
fn rows<'a>(report: &'a Value, jail: &'a str) -> impl Iterator<Item = &'a Value> {
    let rows = report["primitives"].as_array().expect("a list").iter();
    rows.filter(move |row| row["decides"].as_array().is_some_and(|it| it.contains(&jail.into())))
}

#[test]
fn the_doctor_finds_every_primitive_of_root() {
    needs!(root, bpf, userns);
    let world = World::new();
    let out = world.exact(&["doctor", "--json"]).output();
    out.exits(0).nothing_left();
    let report = report(&out);
    out.expect(report["auto"] == "ebpf", "auto takes the first");
    for jail in ["ebpf", "nsjail"] {
        let lacks: Vec<_> = rows(&report, jail)
            .filter(|row| row["required"] == true && row["found"] != "yes")
            .collect();
        out.expect(lacks.is_empty(), &format!("{jail} lacks nothing: {lacks:?}"));
    }
    out.expect(rows(&report, "ebpf").count() > 20, "each hook has a row");
}

#[test]
fn the_doctor_tells_a_user_what_is_refused_and_what_to_do() {
    needs!(root, userns, setpriv);
    let world = World::new();
    let out = as_guest(world.exact(&["doctor", "--json"])).output();
    out.exits(0);
    let report = report(&out);
    out.expect(report["auto"] == "nsjail", "auto takes the first that works");
    let refused = rows(&report, "ebpf").find(|row| row["found"] == "refused");
    let refused = refused.expect("a user loads no program");
    out.expect(refused["errno"].as_str().is_some_and(|it| it.starts_with('E')), "with its number");
    let remedies = refused["remedies"].as_array().expect("a list");
    out.expect(remedies.iter().any(|it| it.to_string().contains("root")), "and what to do");
    let shown = as_guest(world.exact(&["doctor"])).output();
    shown.exits(0).says("nsjail    works").says("auto      takes nsjail").says("refused (E");
    shown.says("to do: run it as root");
}

#[test]
fn the_doctor_leaves_nothing_behind() {
    needs!(root, bpf, userns);
    let world = World::new();
    let ground = Ground::below(&world);
    let out = world.exact(&["doctor"]).output();
    out.exits(0).nothing_left();
    ground.is_bare(&out, Duration::from_secs(30));
}

#[test]
fn auto_says_which_jail_stands_and_why_no_earlier_one() {
    needs!(root, userns, setpriv);
    let world = World::new();
    let line = ["--log-level", "info", "--disable-audit-logs", "--", "true"];
    let out = as_guest(world.exact(&line)).output();
    out.exits(0).complains("jail=nsjail").complains("jail ebpf: ");
    out.complains("Operation not permitted");
}

#[test]
fn where_the_root_is_no_mount_auto_takes_the_jail_that_changes_none() {
    needs!(root, bpf, landlock, setpriv, unshare);
    let world = World::new();
    let root = world.folder().join("chroot");
    let script = "set -e; mkdir -p $0; for it in /*; do \
        if [ -h $it ]; then cp -Pf $it $0; \
        elif [ -d $it ]; then mkdir -p $0$it; mount --rbind $it $0$it; fi; done; exec chroot $0 \"$@\"";
    let root = root.to_str().expect("our own name");
    let under = ["unshare", "--mount", "sh", "-c", script, root];
    let line = ["--log-level", "info", "--disable-audit-logs", "--", "echo", "ran"];
    let out = as_guest(world.exact(&line)).under(&under).output();
    out.exits(0).says("ran").complains("jail=landjail").complains("jail ebpf: mount /");
    // Root could write the machine's settings, which cannot be covered.
    for jail in ["auto", "ebpf", "landjail"] {
        let out = world.exact(&[&["--jail-type", jail][..], &line].concat()).under(&under).output();
        out.exits(125).complains("refused (EINVAL)").complains("mount --bind DIR DIR");
    }
    let out = world.exact(&["doctor"]).under(&under).output();
    out.says("auto      finds nothing").says("mounts over the machine's settings");
    let out = as_guest(world.exact(&["doctor"])).under(&under).output();
    out.says("auto      takes landjail");
}

#[test]
fn a_named_jail_that_cannot_be_raised_is_told_by_the_row_that_decides() {
    needs!(root, setpriv);
    let world = World::new();
    let mark = world.folder().join("ran");
    let touch = ["touch", mark.to_str().expect("our own name")];
    let line = [&["--jail-type", "ebpf", "--"][..], &touch].concat();
    let out = as_guest(world.exact(&line)).output();
    out.exits(125).complains("jail ebpf: ").complains("refused (E");
    out.complains("run it as root").complains("boundary doctor").complains("no command was run");
    out.expect(out.stderr.trim_end().lines().count() <= 2, "one line says so");
    out.expect(!mark.exists(), "the command never ran");
}

#[test]
fn without_user_namespaces_a_user_is_told_the_switch() {
    needs!(root, userns, setpriv, unshare);
    let world = World::new();
    // In a user namespace of root's where no other may be made: the limit holds there alone.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    let limit = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"];
    let out = world.exact(&["--jail-type", "nsjail", "--", "true"]).under(&limit).output();
    out.exits(125).complains("jail nsjail: user namespace: refused (ENOSPC)");
    out.complains("user.max_user_namespaces").complains("no command was run");
    let out = world.exact(&["doctor"]).under(&limit).output();
    out.says("nsjail    does not work: user namespace: refused (ENOSPC)");
}

#[test]
fn landjail_stands_where_there_is_landlock_and_is_refused_elsewhere() {
    needs!(root, setpriv);
    let world = World::new();
    let mark = world.folder().join("tmp/ran");
    let touch = ["touch", mark.to_str().expect("our own name")];
    let line = [&["--jail-type", "landjail", "--"][..], &touch].concat();
    for is_users in [false, true] {
        let run = world.exact(&line);
        let out = if is_users { as_guest(run).output() } else { run.output() };
        if has_landlock() {
            out.exits(0).expect(mark.exists(), "the command ran");
            std::fs::remove_file(&mark).expect("it is there");
            continue;
        }
        // Nothing else keeps the command from the memory of its user's other processes.
        out.exits(125).complains("jail landjail: ").complains("Landlock");
        out.complains("no command was run").expect(!mark.exists(), "the command never ran");
    }
}
