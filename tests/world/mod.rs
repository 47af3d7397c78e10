//! The stage: a simulated internet on the far side of a wire, and a host in which boundary runs.
//!
//! ```text
//! host (network and mount namespace)        internet (network namespace)
//!   10.77.0.2, fd77::2  ──────── veth ────────  every other address, v4 and v6
//!   boundary, its command                       origin · names · wire (counts what arrives)
//! ```
//!
//! *Standing*: a test makes a [`World`], runs boundary in it and looks at the [`Output`], which
//! prints the whole scene when a check fails. Fifty worlds stand side by side.
//! *Never*: touches the machine's own network, sleeps, or leaves anything behind.

pub(crate) mod agent;
pub(crate) mod authority;
pub(crate) mod browser;
pub(crate) mod collector;
pub(crate) mod container;
mod daemon;
mod holders;
mod http2;
mod names;
pub(crate) mod narrow;
pub(crate) mod needs;
mod origin;
mod output;
pub(crate) mod place;
pub(crate) mod processes;
mod request;
mod run;
mod screen;
mod service;
mod stop;
pub(crate) mod stopwatch;
pub(crate) mod terminal;
mod toll;
mod wire;

pub(crate) use output::{Output, lines, records};
pub(crate) use run::{Run, Session, binary, has_walls, jail, user};

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use authority::Authority;
use names::{Names, Question};
use origin::Origins;
use place::Place;
use request::Request;
use stop::Stop;
pub(crate) use wire::Packet;
use wire::Wire;

/// The user that the host's passwd knows besides the machine's own: id, name and a second group.
pub(crate) const GUEST: u32 = 4_242;
/// The guest's second group.
pub(crate) const CREW: u32 = 4_243;

/// The host's interface and routes.
const HOST: &str = "\
link set eth0 addrgenmode none
link set eth0 address 02:00:00:00:00:02
link set eth0 up
address add 10.77.0.2/24 dev eth0
address add fd77::2/64 dev eth0 nodad
neighbor add 10.77.0.1 lladdr 02:00:00:00:00:01 dev eth0
neighbor add fd77::1 lladdr 02:00:00:00:00:01 dev eth0
route add default via 10.77.0.1
route add default via fd77::1 dev eth0
";

/// The internet's interface. It owns every address but the host's.
///
/// IPv4 answers only from addresses in the table `local`, and prefers the host's narrower route
/// there as long as no rule parts the tables. IPv6 asks table by table: `local ::/0` in the table
/// `local` would swallow the answers to the host, so it stands in one that is asked last.
const INTERNET: &str = "\
link set eth0 addrgenmode none
link set eth0 address 02:00:00:00:00:01
link set eth0 up
address add 10.77.0.1/24 dev eth0
address add fd77::1/64 dev eth0 nodad
neighbor add 10.77.0.2 lladdr 02:00:00:00:00:02 dev eth0
neighbor add fd77::2 lladdr 02:00:00:00:00:02 dev eth0
route add local 0.0.0.0/0 dev lo table local
route add local ::/0 dev lo table 100
";

/// The simulated internet and the host before it.
pub(crate) struct World {
    origins: Origins,
    names: Names,
    wire: Wire,
    folder: Folder,
    attack: OnceLock<PathBuf>,
    stop: Stop,
    host: Place,
    internet: Place,
}

/// Gives a file, and what is in it if it is a folder, to the user. What is gone meanwhile is nobody's.
fn give(path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    // A file loses its capabilities with its owner.
    if found.uid() != GUEST {
        std::os::unix::fs::lchown(path, Some(GUEST), Some(GUEST)).unwrap_or_default();
    }
    let is_folder = found.is_dir();
    let inside = is_folder.then(|| fs::read_dir(path).ok()).flatten();
    inside.into_iter().flatten().flatten().for_each(|entry| give(&entry.path()));
}

impl World {
    /// A world with the usual names.
    pub(crate) fn new() -> Self {
        let (internet, host, folder, stop) =
            (Place::make(), Place::make(), Folder::make(), Stop::new());
        let peer = internet.netns();
        host.ip(&[], &format!("link add eth0 type veth peer name eth0 netns {peer}\n{HOST}"));
        internet.ip(&[], INTERNET);
        internet.ip(&["-6"], "rule add pref 40000 lookup 100");
        let wire = Wire::tap(&internet, stop.watch());
        let names = Names::serve(&internet, stop.watch());
        let origins =
            Origins::serve(&internet, names.clone(), folder.0.join("files"), stop.watch());
        wire.take(&host);
        let attack = OnceLock::new();
        let world = Self { origins, names, wire, folder, attack, stop, host, internet };
        world.furnish();
        world
    }

    /// Gives the host files of its own: an empty `/run`, its resolver, the user `guest`, the authority to trust.
    fn furnish(&self) {
        let real = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let home = self.folder.0.join("home");
        fs::create_dir(&home).expect("the folder is ours");
        std::os::unix::fs::chown(&home, Some(GUEST), Some(GUEST)).expect("root may");
        let passwd =
            format!("{}guest:x:{GUEST}:{GUEST}::{}:/bin/sh\n", real("/etc/passwd"), home.display());
        let group = format!("{}guest:x:{GUEST}:\ncrew:x:{CREW}:guest\n", real("/etc/group"));
        let resolver = "nameserver 192.0.2.53\nnameserver 2001:db8::53\noptions timeout:5\n";
        fs::create_dir(self.folder.0.join("root")).expect("the folder is ours");
        for shared in ["tmp", "logs"] {
            let shared = self.folder.0.join(shared);
            fs::create_dir(&shared).expect("the folder is ours");
            // Where a user starts boundary, what a test puts there for it is not another's.
            let mode = if run::is_users() { 0o777 } else { 0o1777 };
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(&shared, mode).expect("it is ours");
        }
        self.host.own("/run");
        // Every group may ping, so that a refusal is boundary's.
        let ping = "/proc/sys/net/ipv4/ping_group_range";
        self.host.run(move || fs::write(ping, "0 2147483647").expect("the host's own setting"));
        self.host.cover(&self.file("resolv.conf", resolver), "/etc/resolv.conf");
        self.host.cover(&self.file("nsswitch.conf", "hosts: files dns\n"), "/etc/nsswitch.conf");
        self.host.cover(&self.file("passwd", &passwd), "/etc/passwd");
        self.host.cover(&self.file("group", &group), "/etc/group");
        self.file("ca.pem", &Authority::the().pem());
    }

    /// Gives what tests have put into the world to the user, where a user starts boundary.
    fn hand_over(&self) {
        if run::is_users() {
            give(&self.folder.0);
        }
    }

    /// Runs boundary in the host, with these options and this command.
    pub(crate) fn boundary(&self, options: &[&str], command: &[&str]) -> Run<'_> {
        Run::bounded(self, options, command)
    }

    /// Runs boundary with exactly these arguments, none of the stage's own.
    pub(crate) fn exact(&self, arguments: &[&str]) -> Run<'_> {
        Run::exact(self, arguments)
    }

    /// Runs a command in the host without boundary: the positive control.
    pub(crate) fn bare(&self, command: &[&str]) -> Run<'_> {
        Run::bare(self, command)
    }

    /// A service of the host itself on its loopback addresses, answering HTTP with `host service`.
    pub(crate) fn loopback_service(&self, port: u16) {
        let watch = self.stop.watch();
        self.host.run(move || service::serve(port, watch));
    }

    /// Gives a name that has another of these addresses at each question.
    pub(crate) fn turning_name(&self, name: &str, addresses: &[&str]) {
        self.names.turn(name, addresses);
    }

    /// Writes a file that everybody may read and says where it is.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.0.join(name);
        fs::write(&path, text).expect("the folder is ours");
        path
    }

    /// What runs a command as where the kernel lacks `what` (see `without.py`): to be put before it.
    pub(crate) fn without(&self, what: &str) -> [String; 3] {
        let program = self.file("without.py", include_str!("../without.py"));
        ["python3".to_owned(), program.display().to_string(), what.to_owned()]
    }

    /// Where the world keeps its files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Gives a name its addresses.
    pub(crate) fn name(&self, name: &str, addresses: &[&str]) {
        self.names.set(name, addresses);
    }

    /// A resolver on the host's own loopback addresses, as systemd-resolved is one.
    pub(crate) fn stub_resolver(&self) {
        self.names.serve_in(&self.host, self.stop.watch());
    }

    /// Lets the servers that wait at a gate go on.
    pub(crate) fn open(&self, gate: &str) {
        self.origins.open(gate);
    }

    /// Forgets what has arrived so far: what is seen next belongs to the next run.
    fn settle(&self) {
        drop((self.packets(), self.requests(), self.questions()));
    }

    /// The packets that arrived since the last call.
    pub(crate) fn packets(&self) -> Vec<Packet> {
        self.wire.take(&self.host)
    }

    /// The requests that origins read since the last call.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.origins.take()
    }

    /// The questions that the resolver heard since the last call.
    pub(crate) fn questions(&self) -> Vec<Question> {
        self.names.take()
    }

    /// The host, for what a test itself does there.
    pub(crate) fn host(&self) -> &Place {
        &self.host
    }

    /// The internet, for what a test itself does there.
    pub(crate) fn internet(&self) -> &Place {
        &self.internet
    }

    /// The attack program, where every user may execute it.
    pub(crate) fn attack(&self) -> &str {
        let path = self.attack.get_or_init(|| {
            let built = std::env::var_os("BOUNDARY_ATTACK")
                .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_attack")), PathBuf::from);
            let copy = self.folder.0.join("attack");
            install(&built, &copy);
            copy
        });
        path.to_str().expect("our own name")
    }

    /// Writes a script that everybody may execute, and says where it is.
    pub(crate) fn program(&self, name: &str, text: &str) -> PathBuf {
        let (draft, place) = (self.file(&format!("{name}.draft"), text), self.folder.0.join(name));
        install(&draft, &place);
        place
    }
}

/// Puts a copy of a program where every user may execute it.
///
/// Another process copies: a descriptor of ours, open for writing, could be inherited by a child that
/// another test starts at this moment, and as long as that has it nobody may execute the file
/// (`ETXTBSY`).
pub(crate) fn install(program: &Path, place: &Path) {
    let mode = ["--mode=755", "--no-target-directory"];
    let copied = Command::new("install").args(mode).arg(program).arg(place).status();
    let is_there = copied.is_ok_and(|status| status.success());
    assert!(is_there, "{} is built, and the world's folder is ours", program.display());
}

/// A folder in the system's temporary one that goes with the world.
struct Folder(PathBuf);

impl Folder {
    /// An empty one that everybody may read.
    fn make() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("stage-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary folder can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
