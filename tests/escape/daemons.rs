//! programs outside that do what they are told by whoever reaches them.
//!
//! Each is the real one. The stage starts it outside, before boundary; the control asks it to carry
//! something out and sees it arrive, the command asks the same and is heard by nobody.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::unistd::{Group, User};

use super::people::{BOTH, Helper, Who};
use super::{DENIED, OUT_OF_REACH};
use crate::world::needs::needs;
use crate::world::processes::eventually;
use crate::world::{GUEST, Packet, Run, World};

/// Where the errands go that show when a helper has done everything it was told before.
const FENCE: &str = "198.51.100.9";

/// Has a helper asked, by the words that `ask` makes of an attack on a target: outside, where the
/// attack arrives, and inside, where it does not, which is sure when a later one from outside has.
fn nobody_hears(world: &World, user: Who, ask: impl Fn(&str) -> Vec<String>) {
    let denied = ask(DENIED[0]);
    let denied: Vec<&str> = denied.iter().map(String::as_str).collect();
    arrives(world, user.bare(world, &denied), DENIED[0]);
    let out = user.bounded(world, &denied).output();
    out.nothing_left();
    let fence = ask(FENCE);
    let fence: Vec<&str> = fence.iter().map(String::as_str).collect();
    let seen = arrives(world, user.bare(world, &fence), FENCE);
    let leaked = seen.iter().any(|packet| packet.target == DENIED[0].parse().ok());
    out.expect(!leaked, "nobody inside is heard");
}

/// Runs what makes a packet arrive at an address, and waits for it; everything that arrived.
#[track_caller]
fn arrives(world: &World, run: Run<'_>, target: &str) -> Vec<Packet> {
    let seen = RefCell::new(run.output().packets);
    eventually("the helper does what it is told", || {
        seen.borrow_mut().extend(world.packets());
        seen.borrow().iter().any(|packet| packet.target == target.parse().ok())
    });
    seen.into_inner()
}

/// The attack that a helper is to carry out, as a shell line.
fn errand(world: &World, target: &str) -> String {
    format!("{} udp sendto {target} 9999", world.attack())
}

#[test]
fn a15_a_terminal_multiplexer_outside_runs_nothing_for_the_command() {
    needs!(root, bpf, tmux, setpriv);
    let world = World::new();
    for user in BOTH {
        let socket = world.folder().join("tmp").join(format!("tmux-{}", user.name()));
        let place = socket.to_str().expect("our own name");
        let _server = Helper::start(user.bare(&world, &["tmux", "-D", "-S", place]), &socket);
        nobody_hears(&world, user, |target| {
            let errand = errand(&world, target);
            ["tmux", "-S", place, "run-shell", &errand].map(str::to_owned).to_vec()
        });
    }
}

#[test]
fn a15_a20_a_bus_outside_starts_nothing_for_the_command() {
    needs!(root, bpf, dbus_daemon, dbus_send, setpriv);
    let world = World::new();
    for user in BOTH {
        let name = user.name();
        let socket = world.folder().join("tmp").join(format!("bus-{name}"));
        let config = bus(&world, &socket, name);
        let config = format!("--config-file={config}");
        let run = user.bare(&world, &["dbus-daemon", "--nofork", &config]);
        let _bus = Helper::start(run, &socket);
        for address in
            [format!("unix:path={}", socket.display()), format!("unix:abstract=/tmp/bus-{name}")]
        {
            // It listens at one after the other.
            let bus = format!("--bus={address}");
            let (to, member) = ("--dest=org.freedesktop.DBus", "org.freedesktop.DBus.ListNames");
            let ask = ["dbus-send", "--print-reply", &bus, to, "/", member];
            eventually("the bus answers", || {
                user.bare(&world, &ask).output().status.is_some_and(|status| status.success())
            });
            nobody_hears(&world, user, |target| call(&address, target));
        }
    }
}

/// What starts the service that attacks a target.
fn call(address: &str, target: &str) -> Vec<String> {
    let name = if target == FENCE { "test.Fence" } else { "test.Leak" };
    let options = ["dbus-send", "--print-reply", "--reply-timeout=5000"].map(str::to_owned);
    let call = [
        format!("--bus={address}"),
        format!("--dest={name}"),
        "/".to_owned(),
        format!("{name}.Go"),
    ];
    options.into_iter().chain(call).collect()
}

/// A bus with two services that it starts when somebody speaks to them; the path of its configuration.
fn bus(world: &World, socket: &Path, name: &str) -> String {
    let services = world.folder().join(format!("services-{name}"));
    fs::create_dir(&services).expect("the folder is ours");
    for (service, target) in [("test.Leak", DENIED[0]), ("test.Fence", FENCE)] {
        // One that ends well is waited for until it takes the name.
        let exec = format!("/bin/sh -c '{}; exit 1'", errand(world, target));
        let text = format!("[D-BUS Service]\nName={service}\nExec={exec}\n");
        fs::write(services.join(format!("{service}.service")), text).expect("it is ours");
    }
    let config = format!(
        "<busconfig><type>session</type><listen>unix:path={}</listen>\
         <listen>unix:abstract=/tmp/bus-{name}</listen><servicedir>{}</servicedir>\
         <policy context='default'><allow send_destination='*' eavesdrop='true'/>\
         <allow eavesdrop='true'/><allow own='*'/></policy>\
         </busconfig>",
        socket.display(),
        services.display()
    );
    world.file(&format!("bus-{name}.conf"), &config).display().to_string()
}

#[test]
fn a15_a20_agents_and_a_screen_outside_are_out_of_reach() {
    needs!(root, bpf, ssh_agent, gpg_agent, Xvfb, setpriv);
    let world = World::new();
    let tmp = world.folder().join("tmp");
    for user in BOTH {
        let [ssh, gpg] = ["ssh", "gpg"].map(|agent| tmp.join(format!("{agent}-{}", user.name())));
        let [ssh_place, gpg_place] = [&ssh, &gpg].map(|path| path.to_str().expect("our own name"));
        let number = 100 + std::process::id() % 10_000;
        let (screen, drawn) = (format!(":{number}"), format!("/tmp/.X11-unix/X{number}"));
        let agent = "mkdir -m 700 $0 && exec gpg-agent --homedir $0 --daemon -- sleep 1000";
        let hold = (
            Helper::start(user.bare(&world, &["ssh-agent", "-D", "-a", ssh_place]), &ssh),
            Helper::start(
                user.bare(&world, &["sh", "-c", agent, gpg_place]),
                &gpg.join("S.gpg-agent"),
            ),
            Helper::start(
                user.bare(&world, &["Xvfb", &screen, "-nolisten", "tcp", "-ac"]),
                Path::new(&drawn),
            ),
        );
        let abstract_one = format!("@{drawn}");
        let agent = format!("{gpg_place}/S.gpg-agent");
        for place in [ssh_place, agent.as_str(), drawn.as_str(), abstract_one.as_str()] {
            let words = [world.attack(), "unix", place];
            user.bare(&world, &words).output().succeeded();
            user.bounded(&world, &words).output().refused(OUT_OF_REACH).nothing_left();
        }
        drop(hold);
        eventually("the screen is gone", || {
            fs::remove_file(&drawn).is_ok() || !Path::new(&drawn).exists()
        });
        drop(fs::remove_file(format!("/tmp/.X{number}-lock")));
    }
}

#[test]
fn a15_the_service_manager_hears_nothing_from_the_command() {
    needs!(root, bpf, systemd_run, setpriv);
    let world = World::new();
    let runtime = format!("/run/user/{GUEST}");
    let places = [
        "/run/systemd/private".to_owned(),
        "/run/dbus/system_bus_socket".to_owned(),
        format!("{runtime}/systemd/private"),
        format!("{runtime}/bus"),
    ];
    // By which its clients know that there is one.
    world.host().run(|| fs::create_dir_all("/run/systemd/system").expect("/run is ours"));
    let heard = Arc::new(AtomicUsize::new(0));
    for place in places {
        let count = Arc::clone(&heard);
        world.host().run(move || listen(Path::new(&place), &count));
    }
    for (user, how) in [
        (Who::Root, &["--system"][..]),
        (Who::Root, &["--machine=.host"]),
        (Who::Guest, &["--user"]),
        (Who::Guest, &["--system"]),
    ] {
        let words = [&["systemd-run", "--quiet"], how, &["true"]].concat();
        let run = |run: Run<'_>| {
            heard.store(0, Ordering::SeqCst);
            let out = run.env("XDG_RUNTIME_DIR", &runtime).output();
            (heard.load(Ordering::SeqCst), out)
        };
        let (count, out) = run(user.bare(&world, &words));
        out.expect(count > 0, "outside the manager is reached");
        let (count, out) = run(user.bounded(&world, &words));
        out.expect(count == 0, "inside it is not").nothing_left();
    }
}

/// Stands for a manager: counts who comes and sends him away.
fn listen(place: &Path, count: &Arc<AtomicUsize>) {
    let folder = place.parent().expect("it has one");
    fs::create_dir_all(folder).expect("/run is ours");
    let listener = UnixListener::bind(place).expect("/run is ours");
    for path in folder.ancestors().take_while(|path| *path != Path::new("/run")).chain([place]) {
        let everybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(path, everybody).expect("/run is ours");
    }
    let count = Arc::clone(count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
}

#[test]
fn a15_no_user_can_have_something_done_later() {
    needs!(root, bpf, at, crontab, setpriv);
    let world = World::new();
    world.host().own("/var/spool/cron");
    let [daemon, cron] = ["daemon", "crontab"].map(|name| {
        Group::from_name(name).expect("the group file can be read").expect("the package made it")
    });
    let owner = User::from_name("daemon").expect("passwd can be read").expect("Debian has it");
    world.host().run(move || {
        for (folder, user, group, mode) in [
            ("atjobs", Some(owner.uid.as_raw()), daemon.gid.as_raw(), 0o1770),
            ("atspool", Some(owner.uid.as_raw()), daemon.gid.as_raw(), 0o1770),
            ("crontabs", None, cron.gid.as_raw(), 0o1730),
        ] {
            let folder = Path::new("/var/spool/cron").join(folder);
            fs::create_dir(&folder).expect("it is ours");
            chown(&folder, user, Some(group)).expect("root may");
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("root may");
        }
    });
    // Debian denies it to users of some names, and this is one.
    world.host().cover(&world.file("at.deny", ""), "/etc/at.deny");
    let numbers = Path::new("/var/spool/cron/atjobs/.SEQ");
    world.host().run(move || {
        fs::write(numbers, "0").expect("it is ours");
        chown(numbers, Some(owner.uid.as_raw()), Some(daemon.gid.as_raw())).expect("root may");
    });
    let jobs = |folder: &'static str| {
        let path = Path::new("/var/spool/cron").join(folder);
        world.host().run(move || {
            let entries = fs::read_dir(&path).expect("it is there").flatten();
            // What the programs count their jobs by is none.
            let jobs =
                entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
            jobs.map(|entry| fs::remove_file(entry.path()).expect("root may")).count()
        })
    };
    for (script, folder) in
        [("echo true | at now", "atjobs"), ("echo '* * * * * true' | crontab -", "crontabs")]
    {
        let out = Who::Guest.bare(&world, &["sh", "-c", script]).output();
        out.expect(jobs(folder) > 0, "outside it is taken down");
        let out = Who::Guest.bounded(&world, &["sh", "-c", script]).output();
        out.expect(jobs(folder) == 0, "inside it is not");
    }
}
