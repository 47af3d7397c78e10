//! Crashes: what the kernel does with them by the machine's setting for cores, which is everybody's.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{Flock, FlockArg};

use super::people::BOTH;
use crate::world::needs::needs;
use crate::world::{World, install, jail};

/// The setting.
const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

/// Has it stay as it is meanwhile.
pub(crate) fn keep_setting() -> Flock<File> {
    hold(FlockArg::LockShared)
}

fn hold(how: FlockArg) -> Flock<File> {
    let file = File::open(CORE_PATTERN).expect("Linux has it");
    Flock::lock(file, how).expect("a lock")
}

/// The setting as a test needs it. It is one for the whole machine: one test at a time has it, and it is
/// set back however that one ends.
struct Pattern {
    restorer: Child,
    _lock: Flock<File>,
}

impl Pattern {
    /// Sets it.
    fn set(to: &str) -> Self {
        let lock = hold(FlockArg::LockExclusive);
        let before = fs::read_to_string(CORE_PATTERN).expect("it is text");
        // In a group of its own, and until our end of the pipe is closed by whatever closes it.
        let restorer = Command::new("sh")
            .args(["-c", "cat; printf '%s\\n' \"$0\" >\"$1\"", before.trim_end(), CORE_PATTERN])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("sh starts");
        let pattern = Self { restorer, _lock: lock };
        fs::write(CORE_PATTERN, to).expect("root may");
        let is = fs::read_to_string(CORE_PATTERN).expect("it is text");
        assert_eq!(is.trim_end(), to, "the setting takes it");
        pattern
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        drop(self.restorer.stdin.take());
        assert!(self.restorer.wait().is_ok_and(|it| it.success()), "the setting is as it was");
    }
}

/// A shell under a name by which its crashes are told from those of others.
fn shell(world: &World) -> PathBuf {
    let shell = world.folder().join("crashes");
    install(Path::new("/bin/sh"), &shell);
    shell
}

/// Sets the limit on cores in each way that there is, as far as the shell's language goes, and crashes.
const LOWERED: &str = "prlimit --core=0:0; ulimit -S -c 0; ulimit -c 0; kill -SEGV $$";

#[test]
fn h09_no_limit_that_a_command_sets_has_its_crash_piped_to_a_program_outside() {
    needs!(root, bpf, machine, prlimit);
    let world = World::new();
    let told = world.folder().join("told");
    let text = format!(
        "#!/bin/sh\nif test \"$1\" = crashes; then echo told >{}; fi\nexec cat >/dev/null\n",
        told.display()
    );
    let handler = world.program("handler", &text);
    let shell = shell(&world);
    let shell = shell.to_str().expect("our own name");
    let _set = Pattern::set(&format!("|{} %e", handler.display()));
    for user in BOTH {
        for script in [LOWERED, "kill -SEGV $$"] {
            let inner = [shell, "-c", script];
            let outer = "\"$@\"; echo ended $?";
            let command = [&["sh", "-c", outer, "--"][..], &inner].concat();
            user.bounded(&world, &command).output().exits(0).says("ended 139");
            assert!(!told.exists(), "the handler is not run: {script}");
        }
        // It is by who is not confined, so that there is something to keep from.
        user.bare(&world, &[shell, "-c", LOWERED]).output();
        assert!(told.exists(), "outside the handler is run");
        fs::remove_file(&told).expect("it is ours");
    }
}

/// Whether the kernel has hooks on calls that name a unix socket (Linux 6.7).
fn judges_unix() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux has one");
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(7))
}

#[test]
fn h09_where_crashes_go_to_a_unix_socket_no_jail_stands_that_lets_them() {
    needs!(root, bpf, machine);
    let world = World::new();
    for sign in ["@", "@@"] {
        // For this world alone: the machine's is everybody's, who run at the same time.
        let setting = world.file("setting", &format!("{sign}/run/crashes.sock\n"));
        world.host().cover(&setting, CORE_PATTERN);
        for user in BOTH {
            let out = user.bounded(&world, &["true"]).output();
            if jail() == "ebpf" && judges_unix() {
                // Its hooks refuse what the kernel does for whoever crashes.
                out.exits(0);
            } else {
                out.exits(125).complains("core_pattern").complains("no command was run");
            }
        }
    }
}

#[test]
fn h09_a_limit_on_cores_is_set_as_far_as_a_command_can_tell() {
    needs!(root, bpf, prlimit);
    let world = World::new();
    let script = "ulimit -c 0; echo set $?; ulimit -c unlimited; prlimit --core=0:0 && echo done; prlimit --pid 1 --core=0:0 \
                  || echo refused; prlimit --nofile=99:99 sh -c 'ulimit -n'; \
                  grep 'core file' /proc/self/limits | tr -s ' '";
    for user in BOTH {
        let out = user.bounded(&world, &["sh", "-c", script]).output();
        out.exits(0).says("set 0\ndone\nrefused\n99\nMax core file size 1 1 bytes");
    }
}
