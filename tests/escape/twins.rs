//! two files that the kernel's list of sockets knows by the same number.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::ALLOW;
use crate::world::World;
use crate::world::needs::needs;

/// What is tried.
const TWINS: &str = include_str!("twins.py");

/// A file system of which every user may make trees with numbers of their own.
struct Forest<'w> {
    world: &'w World,
    place: PathBuf,
}

impl<'w> Forest<'w> {
    /// Makes one, open to everybody.
    fn plant(world: &'w World) -> Self {
        let (image, place) = (world.folder().join("forest.img"), world.folder().join("forest"));
        fs::create_dir(&place).expect("the folder is ours");
        let file = fs::File::create(&image).expect("the folder is ours");
        file.set_len(256 << 20).expect("there is room, for it is sparse");
        let forest = Self { world, place };
        let [image, place] = [&image, &forest.place].map(|path| path.display().to_string());
        forest.ask(&["mkfs.btrfs", "--quiet", &image]);
        forest.ask(&["mount", "-o", "loop", &image, &place]);
        forest.ask(&["chmod", "777", &place]);
        forest
    }

    /// Runs a program of the host.
    fn ask(&self, words: &[&str]) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        self.world.host().run(move || {
            let done = Command::new(&words[0]).args(&words[1..]).output().expect("it is installed");
            assert!(done.status.success(), "{words:?}: {done:?}");
        });
    }
}

impl Drop for Forest<'_> {
    fn drop(&mut self) {
        self.ask(&["umount", "--lazy", self.place.to_str().expect("our own name")]);
    }
}

/// A daemon in a network of its own, in whose list nobody looks: as in a container.
fn stranger(path: PathBuf) -> UnixListener {
    unshare(CloneFlags::CLONE_NEWNET).expect("this is root");
    // Whose number is not the first of a tree.
    for number in 0..20 {
        fs::File::create(path.with_extension(number.to_string())).expect("there is room");
    }
    let listener = UnixListener::bind(&path).expect("the place is free");
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("it is ours");
    listener.set_nonblocking(true).expect("it does not wait");
    listener
}

#[test]
fn a18_a_socket_that_is_known_by_anothers_number_opens_nothing() {
    needs!(root, machine, bpf, python3, btrfs, loopdev);
    for guest in [false, true] {
        let world = World::new();
        let forest = Forest::plant(&world);
        let program = world.file("twins.py", TWINS);
        let foreign = forest.place.join("foreign");
        let gate = world.folder().join("tmp/gate");
        mkfifo(&gate, Mode::from_bits_truncate(0o666)).expect("the folder is ours");
        fs::set_permissions(&gate, fs::Permissions::from_mode(0o666)).expect("it is ours");
        let [program, place, path] =
            [&program, &forest.place, &foreign].map(|path| path.display().to_string());
        let run = world.boundary(&ALLOW, &["python3", &program, &place, &path]);
        let session = if guest { run.through_sudo().start() } else { run.start() };
        session.wait_for("ready");
        let daemon = world.host().run(move || std::thread::spawn(|| stranger(foreign)).join());
        let daemon = daemon.expect("it listens");
        fs::write(gate, "go\n").expect("it waits there");
        let out = session.finish();
        out.exits(0).says("plain EPERM").says("twins True").says("foreign EPERM");
        out.says("own done own").says("again done own");
        let mut heard = String::new();
        while let Ok((mut client, _)) = daemon.accept() {
            client.read_to_string(&mut heard).expect("it has ended");
        }
        out.expect(heard.is_empty(), "nothing gets there");
        let refused = out.records.iter().filter(|it| it["address"] == *path).count();
        out.expect(refused == 2, "each is on record");
    }
}
