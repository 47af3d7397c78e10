//! What a session could leave on the machine, and what the kernel itself holds of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::maps::loaded_maps;
use aya::programs::{loaded_links, loaded_programs};
use nix::mount::{MsFlags, mount};
use nix::unistd::Pid;

use crate::world::needs::cgroup2;
use crate::world::processes::eventually;
use crate::world::{Output, World, jail};

/// A part of the cgroup hierarchy that a world takes for the whole: its sessions begin below it, and
/// nobody else's.
pub(crate) struct Ground<'w> {
    world: &'w World,
    /// The folder that stands for the hierarchy.
    pub(crate) folder: PathBuf,
    /// The mounts of the host before any session.
    mounts: String,
    /// What stands where sessions have files.
    files: Vec<String>,
}

impl<'w> Ground<'w> {
    /// Makes one for a world.
    pub(crate) fn below(world: &'w World) -> Self {
        let folder = cover_cgroups(world);
        let (mounts, files) = (mounts(world), files(world));
        Self { world, folder, mounts, files }
    }

    /// The cgroups of the sessions.
    pub(super) fn cgroups(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).expect("it is there").flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    }

    /// Waits until no process of the host runs. False if one still does after the given time.
    pub(super) fn is_lifeless(&self, at_most: Duration) -> bool {
        within(at_most, || self.world.processes().is_empty())
    }

    /// Waits until nothing of any session is there: no process, cgroup, file or mount.
    #[track_caller]
    pub(crate) fn is_bare(&self, out: &Output, at_most: Duration) {
        let bare = within(at_most, || self.rest().is_empty());
        out.expect(bare, &format!("nothing is left of it: {:?}", self.rest()));
        // What the world did after the run is the run's doing too.
        let late = self.world.packets();
        out.expect(late.is_empty(), &format!("nothing leaves afterwards: {late:?}"));
    }

    /// What is there of sessions.
    fn rest(&self) -> Vec<String> {
        let mut rest: Vec<String> =
            self.world.processes().iter().map(|process| format!("{process:?}")).collect();
        rest.extend(self.cgroups().iter().map(|path| path.display().to_string()));
        rest.extend(files(self.world).into_iter().filter(|file| !self.files.contains(file)));
        if mounts(self.world) != self.mounts {
            rest.push(mounts(self.world));
        }
        rest
    }
}

impl Drop for Ground<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(fs::write(self.folder.join("cgroup.kill"), "1"));
            within(Duration::from_secs(5), || remove_tree(&self.folder).is_ok());
            return;
        }
        eventually("the ground is empty", || fs::remove_dir(&self.folder).is_ok());
    }
}

/// What a world's part of the hierarchy is called, behind which stands the process that made it.
pub(crate) const FOREIGN: &str = "foreign-stage-";

/// Makes a part of the cgroup hierarchy and lets a world's host take it for the whole.
pub(super) fn cover_cgroups(world: &World) -> PathBuf {
    let root = PathBuf::from(cgroup2().expect("needed"));
    clear_up(&root);
    let own = world.folder().file_name().expect("it has a name").display().to_string();
    let folder = root.join(format!("foreign-{own}"));
    fs::create_dir(&folder).expect("root may");
    let made = folder.clone();
    world.host().run(move || {
        let none: Option<&str> = None;
        mount(Some(&made), &root, none, MsFlags::MS_BIND, none).expect("a bind mount");
    });
    folder
}

/// Removes what tests left that were killed: nobody else looks below a part of theirs.
pub(crate) fn clear_up(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().display().to_string();
        let maker = name.strip_prefix(FOREIGN).and_then(|rest| rest.split('-').next());
        let is_dead = maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists());
        if is_dead {
            // What lives there, or is gone meanwhile, stays so.
            drop(remove_tree(&entry.path()));
        }
    }
}

/// Removes a cgroup and all below it, as far as nothing lives there.
fn remove_tree(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

/// What stands where sessions have files: in the host's own `/run`, in its folder of temporary ones.
fn files(world: &World) -> Vec<String> {
    let list = |folder: &str| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>()
    };
    let run = world.host().run(move || list("/run"));
    run.into_iter().chain(list(&world.folder().join("tmp").display().to_string())).collect()
}

/// The host's mounts.
fn mounts(world: &World) -> String {
    let thread = world.host().netns().trim_end_matches("/ns/net");
    fs::read_to_string(format!("{thread}/mountinfo")).expect("the host is there")
}

/// Whether something is so within a time.
pub(super) fn within(at_most: Duration, is_so: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if is_so() {
            return true;
        }
        if started.elapsed() > at_most {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// How long the kernel may take to let go.
const PATIENCE: Duration = Duration::from_mins(1);

/// Everything that the kernel holds for users of BPF, by kind and number. Numbers are not given
/// twice.
pub(super) struct Kernel(BTreeSet<(&'static str, u32)>);

impl Kernel {
    /// What there is now.
    pub(super) fn now() -> Self {
        // What goes while it is listed is not there.
        let programs = loaded_programs().flatten().map(|info| ("program", info.id()));
        let maps = loaded_maps().flatten().map(|info| ("map", info.id()));
        let links = loaded_links().flatten().map(|info| ("link", info.id()));
        Self(programs.chain(maps).chain(links).collect())
    }

    /// Waits until everything is gone that has come since, but what a process holds that lives: the
    /// sessions of this test are over, so it is another one's.
    #[track_caller]
    pub(super) fn is_back(&self) {
        if jail() != "ebpf" {
            // The other jails load nothing: what has come is a neighbour's, who may be dead.
            return;
        }
        let come: BTreeSet<_> = Self::now().0.difference(&self.0).copied().collect();
        let rest = || {
            let rest: BTreeSet<_> = Self::now().0.intersection(&come).copied().collect();
            // Nobody needs to be asked about nothing.
            if rest.is_empty() { rest } else { rest.difference(&held()).copied().collect() }
        };
        assert!(within(PATIENCE, || rest().is_empty()), "the kernel still holds {:?}", rest());
    }
}

/// What the processes hold that live now.
fn held() -> BTreeSet<(&'static str, u32)> {
    let processes = fs::read_dir("/proc").expect("procfs is mounted").flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.flat_map(|pid| held_by(Pid::from_raw(pid))).collect()
}

/// What a process has open of BPF, the programs that share a map with it, and the maps of those: a
/// program that is attached needs nobody who holds it.
pub(super) fn held_by(process: Pid) -> BTreeSet<(&'static str, u32)> {
    let open = fs::read_dir(format!("/proc/{process}/fdinfo")).into_iter().flatten().flatten();
    let mut held = BTreeSet::new();
    for told in open.filter_map(|it| fs::read_to_string(it.path()).ok()) {
        for (kind, name) in [("program", "prog_id:"), ("map", "map_id:"), ("link", "link_id:")] {
            let number = told.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            held.extend(number.map(|number| (kind, number)));
        }
    }
    if held.is_empty() {
        return held;
    }
    for program in loaded_programs().flatten() {
        let maps = program.map_ids().ok().flatten().unwrap_or_default();
        let is_own = held.contains(&("program", program.id()))
            || maps.iter().any(|map| held.contains(&("map", *map)));
        if is_own {
            held.insert(("program", program.id()));
            held.extend(maps.into_iter().map(|map| ("map", map)));
        }
    }
    held
}
