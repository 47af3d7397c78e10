//! Processes of the run: helpers, and the loads that are told what to do.
//!
//! *Never*: outlives the run, or waits for ever.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::load::{Outcome, Report, Task};

/// How long a helper may take until it serves.
const UNTIL_READY: Duration = Duration::from_secs(30);

/// How long any task may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where the helper's own output goes: nobody reads it unless something is wrong.
pub(super) fn own(part: &str) -> Result<Command> {
    let mut command = bound(std::env::current_exe().context("our own program")?);
    command.arg(part);
    Ok(command)
}

/// A process that serves until it is dropped.
#[derive(Debug)]
pub(super) struct Helper {
    child: Child,
}

impl Helper {
    /// The origin, serving.
    pub(super) fn origin(folder: &Path) -> Result<Self> {
        let mut command = own("origin")?;
        command.arg("--folder").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("the origin")?;
        let mut line = String::new();
        let out = child.stdout.take().context("a pipe")?;
        let helper = Self { child };
        BufReader::new(out).read_line(&mut line)?;
        ensure!(line == "ready\n", "the origin does not serve");
        Ok(helper)
    }

    /// A proxy, once it listens.
    pub(super) fn listening(mut command: Command, address: SocketAddr) -> Result<Self> {
        let name = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut helper = Self { child: command.spawn().with_context(|| name.clone())? };
        let deadline = Instant::now() + UNTIL_READY;
        while !is_open(address) {
            if let Some(status) = helper.child.try_wait()? {
                bail!("{name} ended: {status}");
            }
            ensure!(Instant::now() < deadline, "{name} does not listen at {address}");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(helper)
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // One that has ended already is fine.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A command for a program that the kernel kills when we are gone, however that came.
pub(super) fn bound(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Whether somebody listens there.
#[expect(clippy::disallowed_methods, reason = "this is no part of boundary")]
fn is_open(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// A load that is told what to do. Dropping it ends it, and what runs it.
#[derive(Debug)]
pub(super) struct Agent {
    child: Child,
    tell: Option<ChildStdin>,
    reports: Receiver<String>,
}

impl Agent {
    /// Starts a load by a command that ends in one.
    pub(super) fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("a load")?;
        let tell = child.stdin.take();
        let out = child.stdout.take().context("a pipe")?;
        let (report, reports) = sync_channel(16);
        thread::spawn(move || {
            let mut lines = BufReader::new(out).lines().map_while(Result::ok);
            // Nobody listens any more when the load was given up.
            lines.try_for_each(|line| report.send(line))
        });
        Ok(Self { child, tell, reports })
    }

    /// Has it do something; how it went.
    pub(super) fn perform(&mut self, task: &Task) -> Result<Outcome> {
        let mut line = serde_json::to_string(task)?;
        line.push('\n');
        self.tell.as_mut().context("the load was given up")?.write_all(line.as_bytes())?;
        let Ok(report) = self.reports.recv_timeout(PATIENCE) else {
            self.tell = None;
            bail!("the load does not answer");
        };
        match serde_json::from_str(&report)? {
            Report::Done(outcome) => Ok(outcome),
            Report::Failed(why) => bail!(why),
        }
    }

    /// The process that was started: the load, or what runs it.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Agent {
    /// Its input ends, and with it the load. One that hangs is killed.
    fn drop(&mut self) {
        drop(self.tell.take());
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
