//! The sinks and the command, in every jail and as anybody: what it is on record for it cannot change,
//! however long it runs.

use std::path::Path;

use crate::world::needs::needs;
use crate::world::{GUEST, Run, World};

/// A run as somebody in some jail.
type As = for<'a> fn(&'a World, &[&str], &[&str]) -> Run<'a>;

/// Everybody in every jail who can be kept from the files: whoever has mounts of their own.
const KEPT_OUT: [(&str, u32, As); 5] = [
    ("ebpf", 0, as_root),
    ("ebpf", GUEST, through_sudo),
    ("nsjail", 0, as_root),
    ("nsjail", GUEST, as_guest),
    ("landjail", 0, as_root),
];

/// As root.
fn as_root<'a>(world: &'a World, options: &[&str], command: &[&str]) -> Run<'a> {
    world.boundary(options, command)
}

/// As the guest, through sudo.
fn through_sudo<'a>(world: &'a World, options: &[&str], command: &[&str]) -> Run<'a> {
    world.boundary(options, command).through_sudo()
}

/// As the guest, who has no right that others lack.
fn as_guest<'a>(world: &'a World, options: &[&str], command: &[&str]) -> Run<'a> {
    let id = GUEST.to_string();
    let become_guest =
        ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--bounding-set", "-all"];
    world.boundary(options, command).under(&become_guest)
}

/// A folder of whoever runs it, which others may look into.
fn folder(world: &World, name: &str, owner: u32) -> String {
    let folder = world.folder().join("tmp").join(name);
    std::fs::create_dir(&folder).expect("the folder is ours");
    std::os::unix::fs::chown(&folder, Some(owner), Some(owner)).expect("we are root");
    folder.to_str().expect("our own name").to_owned()
}

/// Everything that can be done to a file by its name.
const TAMPER: &str = "for it in \"$@\"; do \
    (: > \"$it\"); (echo forged >> \"$it\"); (echo forged | dd of=\"$it\" conv=notrunc); \
    truncate -s 0 \"$it\"; rm -f \"$it\"; mv \"$it\" \"$it.x\"; ln -sf /dev/null \"$it\"; \
    done 2>/dev/null; echo tried";

/// What verify says of a file.
fn verified(world: &World, path: &str) {
    world.exact(&["audit", "verify", path]).output().exits(0).says("intact");
}

#[test]
fn nobody_who_has_mounts_of_their_own_changes_a_file_of_the_record() {
    needs!(root, bpf, privilege, userns, setpriv, curl, sudo);
    let world = World::new();
    for (number, (jail, owner, run)) in KEPT_OUT.into_iter().enumerate() {
        let folder = folder(&world, &format!("kept-{number}"), owner);
        let audit = format!("{folder}/audit.jsonl");
        let options = [
            "--jail-type",
            jail,
            "--audit-log",
            &audit,
            "--log-dir",
            &folder,
            "--log-level",
            "info",
        ];
        let script = format!(
            "curl -s -o /dev/null http://denied.test/1; set -- {folder}/*; {TAMPER}; \
             curl -s -o /dev/null http://denied.test/2"
        );
        let out = run(&world, &options, &["sh", "-c", &script]).output();
        out.says("tried");
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let text = read(Path::new(&audit));
        out.expect(!text.contains("forged"), &format!("{jail}: nothing was added"));
        for url in ["http://denied.test/1", "http://denied.test/2"] {
            out.expect(text.contains(url), &format!("{jail}: {url} is on record"));
        }
        let files = std::fs::read_dir(&folder).expect("it is there").flatten();
        let files: Vec<_> = files.map(|file| file.path()).collect();
        let log = files.iter().find(|file| file.extension().is_some_and(|it| it == "log"));
        let log = read(log.expect("the log is where it was"));
        out.expect(log.contains("/1") && log.contains("/2"), &format!("{jail}: the log is whole"));
        out.expect(!log.contains("forged"), &format!("{jail}: nor was anything added there"));
        verified(&world, &audit);
    }
}

#[test]
fn a_session_goes_on_in_files_that_the_command_cannot_change_either() {
    needs!(root, bpf, privilege, userns, setpriv, curl, sudo);
    let world = World::new();
    let config = world.file("small.yaml", "audit_max_size: 6KiB\naudit_files: 3\n");
    let config = config.to_str().expect("our own name");
    for (number, (jail, owner, run)) in KEPT_OUT.into_iter().enumerate() {
        let folder = folder(&world, &format!("small-{number}"), owner);
        let audit = format!("{folder}/audit.jsonl");
        let options = ["--jail-type", jail, "--config", config, "--audit-log", &audit];
        let script = format!(
            "for n in 1 2 3 4 5 6 7 8; do \
               curl -s -o /dev/null http://denied.test/[1-9]; set -- {folder}/*; {TAMPER}; \
             done"
        );
        let out = run(&world, &options, &["sh", "-c", &script]).output();
        out.says("tried");
        for name in ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"] {
            let text = std::fs::read_to_string(format!("{folder}/{name}"));
            let text = text.unwrap_or_else(|error| panic!("{jail}: {name}: {error}\n{out}"));
            out.expect(!text.contains("forged"), &format!("{jail}: nothing was added to {name}"));
        }
        let first = std::fs::metadata(format!("{folder}/audit.jsonl.1"));
        out.expect(first.is_ok_and(|it| it.len() >= 6 << 10), &format!("{jail}: it was set aside"));
        verified(&world, &audit);
    }
}

#[test]
fn whose_files_are_whose_own_is_found_out_by_verify() {
    needs!(root, privilege, setpriv, curl);
    let world = World::new();
    let folder = folder(&world, "own", GUEST);
    let audit = format!("{folder}/audit.jsonl");
    let options = ["--jail-type", "landjail", "--audit-log", &audit];
    let script = format!(
        "curl -s -o /dev/null http://denied.test/; \
         while ! grep -q no_rule {audit}; do :; done; sed -i s/no_rule/no_Rule/ {audit}"
    );
    // Without any mount of its own an ordinary user's command can do what that user can.
    as_guest(&world, &options, &["sh", "-c", &script]).output();
    world.exact(&["audit", "verify", &audit]).output().exits(1).says("was changed");
}
