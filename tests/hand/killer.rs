//! `hand kill VICTIM STOP -- LINE…`: runs boundary and kills one of its processes, or all of them, in
//! the middle of one of its system calls. `hand stop …` stops it there, for good.
//!
//! A process of boundary is known by who forked it and in which order: the keeper is the first,
//! which forks the init of the command's pid namespace, the proxy, and the process that becomes
//! the command; that one forks the usher. In the jail of namespaces somebody forks the first and the
//! last of these for it, as siblings. Every system call is two places to die: before it and after it. That makes every
//! stage of start-up, life and shutdown a number.
//!
//! *Standing*: `tests/escape/killed.rs` counts the stops of an undisturbed run, then dies at them.
//! *Never*: leaves anything traced behind; the kernel kills what it traces when it dies.
#![expect(unsafe_code, reason = "a child is traced from before its exec")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::json;

/// The processes that the keeper forks, after itself and in this order. The one that becomes the
/// command forks the usher, through a process that ends at once.
const ROLES: [&str; 4] = ["keeper", "init", "proxy", "command"];

/// The same in the jail of namespaces, and whom the first and the last of them fork.
const SIBLINGS: [&str; 4] = ["keeper", "founder", "proxy", "herald"];
const FORKED_FOR: [(&str, &str); 2] = [("founder", "init"), ("herald", "command")];

/// The same in the jail whose usher is the parent of the command. It tries first, in a process of its
/// own, whether calls can be answered.
const ABOVE: [&str; 5] = ["keeper", "init", "probe", "proxy", USHER];

/// Between the process that becomes the command and the usher.
const BETWEEN: &str = "between";

/// Who leads the command to unix sockets.
const USHER: &str = "usher";

/// Runs the line and kills, or stops. Says how many stops the victim made, and at which it was killed.
pub(crate) fn end_at(deed: Signal, arguments: &[String]) -> anyhow::Result<()> {
    let [victim, stop, _, program, line @ ..] = arguments else {
        anyhow::bail!("VICTIM STOP -- LINE");
    };
    let stop = stop.parse().context("STOP is a number")?;
    let mut command = Command::new(program);
    command.args(line);
    // SAFETY: between fork and exec the child makes one system call.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(Into::into)) };
    let child = command.spawn()?;
    let keeper = Pid::from_raw(i32::try_from(child.id())?);
    let is_in_namespaces = line.iter().any(|word| word == "nsjail");
    let mut trace = Trace::begin(keeper, deed, (victim, stop))?;
    let is_above = line.iter().any(|word| word == "landjail");
    trace.forked = match (is_in_namespaces, is_above) {
        (true, _) => &SIBLINGS,
        (false, true) => &ABOVE,
        (false, false) => &ROLES,
    };
    while trace.step()? {}
    println!("{}", json!({ "victim": victim, "stops": trace.stops, "killed": trace.is_killed }));
    Ok(())
}

/// A run under way.
struct Trace {
    /// What is done to the victim: it is killed, or stopped.
    deed: Signal,
    /// Whom to kill; `all` counts the keeper's stops.
    victim: String,
    /// At which of its stops.
    stop: u64,
    /// How many it has made.
    stops: u64,
    is_killed: bool,
    /// Whom the keeper forks, in order, itself first.
    forked: &'static [&'static str],
    /// What each process of boundary is.
    roles: BTreeMap<Pid, &'static str>,
    /// The process of each thread that was seen.
    threads: BTreeMap<Pid, Pid>,
    /// Threads of which somebody told that they begin, and that have not stopped yet.
    begun: BTreeSet<Pid>,
}

impl Trace {
    /// Takes hold of the keeper, which has just become boundary.
    fn begin(keeper: Pid, deed: Signal, (victim, stop): (&str, u64)) -> anyhow::Result<Self> {
        waitpid(keeper, None).context("the keeper never stopped")?;
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            // Or else an exec sends a signal, which ends whoever does not expect it.
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(keeper, options)?;
        let trace = Self {
            deed,
            victim: victim.to_owned(),
            stop,
            stops: 0,
            is_killed: false,
            forked: &ROLES,
            roles: BTreeMap::from([(keeper, ROLES[0])]),
            threads: BTreeMap::from([(keeper, keeper)]),
            begun: BTreeSet::new(),
        };
        trace.go_on(keeper, None)?;
        Ok(trace)
    }

    /// Takes one stop of one thread. False when nobody is left.
    fn step(&mut self) -> anyhow::Result<bool> {
        match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Err(Errno::ECHILD) => return Ok(false),
            Err(error) => return Err(error.into()),
            Ok(WaitStatus::PtraceSyscall(thread)) => {
                let is_now = self.count(thread);
                if is_now && self.deed == Signal::SIGSTOP {
                    // Whoever is traced does not stay stopped.
                    ptrace::detach(thread, None)?;
                } else {
                    self.go_on(thread, None)?;
                }
            }
            Ok(WaitStatus::PtraceEvent(thread, _, event)) => {
                self.note(thread, event)?;
                self.go_on(thread, None)?;
            }
            Ok(WaitStatus::Stopped(thread, signal)) => {
                // A thread begins with a stop that nobody sent, and may do so before its parent
                // is seen to have begun it.
                let is_new = self.begun.remove(&thread) || self.meet(thread);
                let is_ours = is_new && signal == Signal::SIGSTOP;
                self.go_on(thread, Some(signal).filter(|_| !is_ours))?;
            }
            Ok(_) => {}
        }
        Ok(true)
    }

    /// Counts a stop if it is the victim's. At the one that was asked for the deed is done, and it
    /// says so.
    fn count(&mut self, thread: Pid) -> bool {
        if self.is_killed || !self.is_victim(thread) {
            return false;
        }
        self.stops += 1;
        self.is_killed = self.stops == self.stop;
        if self.is_killed {
            let all = self.victim == "all";
            let victims = self.roles.iter().filter(|(_, role)| all || **role == self.victim);
            // One that has ended meanwhile is as dead as the others will be.
            victims.for_each(|(it, _)| kill(*it, self.deed).unwrap_or_default());
        }
        self.is_killed
    }

    /// Whether a thread's stops count.
    fn is_victim(&self, thread: Pid) -> bool {
        let counted = if self.victim == "all" { ROLES[0] } else { self.victim.as_str() };
        let process = self.threads.get(&thread);
        process.and_then(|process| self.roles.get(process)) == Some(&counted)
    }

    /// Notes who begins what.
    fn note(&mut self, parent: Pid, event: i32) -> anyhow::Result<()> {
        let begins =
            [Event::PTRACE_EVENT_FORK, Event::PTRACE_EVENT_VFORK, Event::PTRACE_EVENT_CLONE];
        if !begins.iter().any(|begin| *begin as i32 == event) {
            return Ok(());
        }
        let Ok(number) = ptrace::getevent(parent) else { return Ok(()) };
        let thread = Pid::from_raw(i32::try_from(number)?);
        if !self.threads.contains_key(&thread) {
            self.begun.insert(thread);
            self.meet(thread);
        }
        let parent = self.threads.get(&parent).and_then(|parent| self.roles.get(parent)).copied();
        if self.threads.get(&thread) == Some(&thread)
            && let Some(role) = parent.and_then(|parent| self.role_of_child(parent))
        {
            self.roles.insert(thread, role);
        }
        Ok(())
    }

    /// What the next child of one of boundary's processes is.
    fn role_of_child(&self, parent: &str) -> Option<&'static str> {
        let is_new = |role: &&'static str| !self.roles.values().any(|known| known == role);
        match parent {
            "keeper" => self.forked.iter().copied().find(is_new),
            "founder" | "herald" => {
                let forked = FORKED_FOR.into_iter().find(|(by, _)| *by == parent);
                forked.map(|(_, role)| role).filter(is_new)
            }
            "command" => Some(BETWEEN).filter(is_new),
            BETWEEN => Some(USHER).filter(is_new),
            USHER if self.forked.contains(&USHER) => Some("command").filter(is_new),
            _ => None,
        }
    }

    /// Learns which process a thread is of. True when it was not known.
    fn meet(&mut self, thread: Pid) -> bool {
        if self.threads.contains_key(&thread) {
            return false;
        }
        let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
        let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
        let process = process.and_then(|number| number.trim().parse().ok()).map(Pid::from_raw);
        self.threads.insert(thread, process.unwrap_or(thread));
        true
    }

    /// Lets a thread go on: to its next system call while it matters, else to its end.
    fn go_on(&self, thread: Pid, signal: Option<Signal>) -> anyhow::Result<()> {
        // Who is not known yet may be the victim.
        let known = self.threads.get(&thread).is_some_and(|it| self.roles.contains_key(it));
        let matters = !self.is_killed && (self.is_victim(thread) || !known);
        let gone_on =
            if matters { ptrace::syscall(thread, signal) } else { ptrace::cont(thread, signal) };
        match gone_on {
            // It was killed meanwhile.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
