//! What goes wrong while the clients run. Each fault ends before it returns.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::World;
use crate::world::agent::Agent;

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The proxy is stopped.
    Stopped,
    /// The wire is slow, and loses much.
    Slow,
    /// The proxy has no descriptors to spare.
    Starved,
    /// Nothing arrives at all.
    Cut,
    /// The workspace agent goes, and comes again.
    Agent,
    /// Everything sleeps, as on a machine that is suspended.
    Suspended,
}

impl Fault {
    /// All of them.
    pub(super) const ALL: [Self; 6] =
        [Self::Stopped, Self::Slow, Self::Starved, Self::Cut, Self::Agent, Self::Suspended];

    /// Lets it happen for a while.
    pub(super) fn strike(self, world: &World, agent: &mut Agent, length: Duration) {
        match self {
            Self::Stopped => {
                let proxies = named(world, "boundary-proxy");
                signal(&proxies, Signal::SIGSTOP);
                pass(length);
                signal(&proxies, Signal::SIGCONT);
            }
            Self::Suspended => {
                let all: Vec<Pid> = world.processes().iter().map(|process| process.pid).collect();
                signal(&all, Signal::SIGSTOP);
                pass(length);
                signal(&all, Signal::SIGCONT);
            }
            Self::Slow => shaped(world, "64kbit", length),
            Self::Cut => shaped(world, "8bit", length),
            Self::Starved => {
                let bound: Vec<(Pid, String)> =
                    named(world, "boundary-proxy").into_iter().map(starve).collect();
                pass(length);
                for (pid, limit) in bound {
                    limited(pid, &limit);
                }
            }
            Self::Agent => {
                agent.kill();
                pass(length);
                agent.begin();
            }
        }
    }
}

/// Lets time pass: a fault lasts as long as it lasts.
fn pass(length: Duration) {
    let until = Instant::now() + length;
    while Instant::now() < until {
        thread::park_timeout(Duration::from_millis(100));
    }
}

/// The processes of a name.
fn named(world: &World, name: &str) -> Vec<Pid> {
    let all = world.processes().into_iter().map(|process| process.pid);
    let is_called = |pid: &Pid| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim_end() == name
    };
    all.filter(is_called).collect()
}

/// Signals processes, of which some may have ended.
fn signal(pids: &[Pid], signal: Signal) {
    for pid in pids {
        kill(*pid, signal).unwrap_or_default();
    }
}

/// Lets so much through to the internet, for a while.
fn shaped(world: &World, rate: &'static str, length: Duration) {
    let tc = |words: String| {
        // A kernel without it lets everything through.
        world.host().run(move || drop(Command::new("tc").args(words.split(' ')).status()));
    };
    tc(format!("qdisc replace dev eth0 root tbf rate {rate} burst 2kb limit 6kb"));
    pass(length);
    tc("qdisc del dev eth0 root".to_owned());
}

/// Leaves a process two descriptors more than it has; what it had before.
fn starve(pid: Pid) -> (Pid, String) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let mut words = line.unwrap_or_default().split_ascii_whitespace();
    let (soft, hard) = (words.next().unwrap_or("1024"), words.next().unwrap_or("4096"));
    let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    limited(pid, &format!("{}:{hard}", open + 2));
    (pid, format!("{soft}:{hard}"))
}

/// Bounds the descriptors of a process.
fn limited(pid: Pid, limit: &str) {
    let (pid, limit) = (pid.to_string(), format!("--nofile={limit}"));
    drop(Command::new("prlimit").args(["--pid", &pid, &limit]).status());
}
