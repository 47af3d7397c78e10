//! A thread that lives in namespaces of its own and runs there what it is given.
//!
//! *Standing*: a world has two, the internet and the host. Threads and commands that a job starts
//! inherit the namespaces, so nothing else has to know of them, and the kernel removes them with
//! the last of those, even after a panic.
//! *Never*: touches the namespaces of the test process itself.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

/// What a place runs.
type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace and a mount namespace of its own.
pub(crate) struct Place {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    netns: String,
}

impl Place {
    /// Makes the namespaces, with the loopback interface up and the mounts private.
    pub(crate) fn make() -> Self {
        let (jobs, work) = sync_channel(1);
        let (report, made) = sync_channel(1);
        let thread = std::thread::spawn(move || live(&report, &work));
        let netns = made.recv().expect("the namespaces are made");
        let place = Self { jobs: Some(jobs), thread: Some(thread), netns };
        place.ip(&[], "link set lo up");
        place
    }

    /// Runs a job there and hands back what it makes. A panic in it is a panic here.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = sync_channel(1);
        let job = move || {
            let outcome = catch_unwind(AssertUnwindSafe(job));
            done.send(outcome).expect("somebody waits for the job");
        };
        self.jobs.as_ref().expect("the place lives").send(Box::new(job)).expect("it takes jobs");
        result.recv().expect("the job ran").unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// A path by which `ip` finds the network namespace.
    pub(crate) fn netns(&self) -> &str {
        &self.netns
    }

    /// Runs a batch of `ip` commands there, one a line.
    pub(crate) fn ip(&self, flags: &'static [&'static str], batch: &str) {
        let batch = batch.to_owned();
        self.run(move || {
            let mut ip = Command::new("ip")
                .args(flags)
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .spawn()
                .expect("ip starts");
            let mut stdin = ip.stdin.take().expect("a pipe was asked for");
            stdin.write_all(batch.as_bytes()).expect("ip reads");
            drop(stdin);
            assert!(ip.wait().expect("ip ends").success(), "ip refused one of:\n{batch}");
        });
    }

    /// Gives this place an empty folder of its own.
    pub(crate) fn own(&self, folder: &'static str) {
        self.run(move || {
            let none: Option<&str> = None;
            let kind = Some("tmpfs");
            mount(kind, folder, kind, MsFlags::empty(), none).expect("a mount");
        });
    }

    /// Lays one file over another, for this place alone.
    pub(crate) fn cover(&self, file: &Path, over: &'static str) {
        let file = file.to_owned();
        self.run(move || {
            let none: Option<&str> = None;
            mount(Some(&file), over, none, MsFlags::MS_BIND, none).expect("a bind mount");
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The thread's life: leave the test's namespaces, say where, work until nobody asks any more.
fn live(report: &SyncSender<String>, work: &Receiver<Job>) {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .expect("root makes namespaces");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    let own = format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid());
    report.send(own).expect("the maker waits");
    while let Ok(job) = work.recv() {
        job();
    }
}
