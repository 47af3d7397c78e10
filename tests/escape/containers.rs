//! H-7: a container of the same user, made by the program that makes most of them.

use std::fs;
use std::path::Path;

use super::people::{BOTH, Helper, Who};
use super::privileges::shown;
use crate::world::needs::needs;
use crate::world::processes::eventually;
use crate::world::{GUEST, Run, World};

/// What `runc` needs to know of a container in which a user is root, and which sees what the machine
/// has to run a shell.
fn container(user: Who) -> String {
    let id = if user == Who::Guest { GUEST } else { 0 };
    let map = serde_json::json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
    let shown = ["/bin", "/usr", "/lib", "/lib64"].into_iter().filter(|it| Path::new(it).exists());
    let shown = shown.map(|place| {
        serde_json::json!({ "destination": place, "type": "bind", "source": place,
            "options": ["rbind", "ro"] })
    });
    let proc = serde_json::json!({ "destination": "/proc", "type": "proc", "source": "proc" });
    let namespaces = ["pid", "network", "ipc", "mount", "user"];
    serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sh", "-c", "exec sleep 1000"],
            "env": ["PATH=/bin:/usr/bin"],
            "cwd": "/",
        },
        "root": { "path": "rootfs" },
        "mounts": std::iter::once(proc).chain(shown).collect::<Vec<_>>(),
        "linux": {
            "namespaces": namespaces.map(|kind| serde_json::json!({ "type": kind })),
            "uidMappings": map,
            "gidMappings": map,
        },
    })
    .to_string()
}

/// A container that runs, and ends with the test.
struct Contained<'w> {
    world: &'w World,
    state: String,
    _runs: Helper<'w>,
}

impl<'w> Contained<'w> {
    /// Starts one as a user.
    fn start(world: &'w World, user: Who) -> Self {
        let bundle = world.folder().join("tmp").join(format!("bundle-{}", user.name()));
        let state = bundle.join("state");
        for folder in [&bundle, &bundle.join("rootfs"), &state] {
            fs::create_dir(folder).expect("the folder is ours");
            let owner = (user == Who::Guest).then_some(GUEST);
            std::os::unix::fs::chown(folder, owner, owner).expect("root may");
        }
        fs::write(bundle.join("config.json"), container(user)).expect("the folder is ours");
        let [place, state] = [&bundle, &state].map(|it| it.to_str().expect("our own name"));
        let line = ["runc", "--root", state, "run", "--bundle", place, "held"];
        let run = user.bare(world, &line).env("XDG_RUNTIME_DIR", state);
        let (sign, state) = (bundle.join("state/held/state.json"), state.to_owned());
        let contained = Self { world, state, _runs: Helper::start(run, &sign) };
        eventually("it runs", || contained.about()["status"] == "running");
        contained
    }

    /// What `runc` tells of it.
    fn about(&self) -> serde_json::Value {
        let out = self.world.bare(&["runc", "--root", &self.state, "state", "held"]).output();
        serde_json::from_str(&out.stdout).unwrap_or_default()
    }

    /// Its first process, by the host's number.
    fn pid(&self) -> String {
        self.about()["pid"].to_string()
    }
}

impl Drop for Contained<'_> {
    fn drop(&mut self) {
        let words = ["runc", "--root", &self.state, "kill", "held", "KILL"];
        drop(self.world.bare(&words).output());
        eventually("it is gone", || self.about()["status"] != "running");
    }
}

#[test]
fn h07_a_container_of_the_same_user_cannot_be_entered() {
    needs!(root, bpf, setpriv, runc);
    let world = World::new();
    for user in BOTH {
        let container = Contained::start(&world, user);
        let pid = container.pid();
        let [users, net] = ["user", "net"].map(|kind| shown(&world, &pid, kind, user));
        let words = [world.attack(), "join", &users, &net, "1"];
        user.bare(&world, &words).output().succeeded();
        user.bounded(&world, &words).output().refused(&["EPERM", "EACCES"]).nothing_left();
        // Nor by the program that made it.
        let enter = ["runc", "--root", &container.state, "exec", "held", "/bin/true"];
        let xdg = |run: Run<'_>| run.env("XDG_RUNTIME_DIR", &container.state).output();
        xdg(user.bare(&world, &enter)).exits(0);
        let out = xdg(user.bounded(&world, &enter));
        out.expect(out.status.is_some_and(|it| !it.success()), "it cannot be entered");
    }
}
