//! One virtual machine, from its start to its end: what it says is handed on line by line, and it is
//! killed when it says nothing for too long or never ends.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::kernel::Kernel;
use crate::arch::Arch;
use crate::musl::require;

/// How many lines a machine may be ahead of whoever follows it.
const AHEAD: usize = 1024;

/// How long a machine may be silent: no single test takes as long.
const SILENCE: Duration = Duration::from_mins(4);

/// What a guest's kernel does otherwise than where people run it, because each instruction is emulated:
/// namespaces go without waiting for every processor, and calls and branches are as they are written.
/// What the verifier is told to guard against stays as it is.
const QUICK: &str = "rcupdate.rcu_expedited=1 spectre_v2=off pti=off nokaslr";

/// How a machine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It turned itself off.
    Off,
    /// It said nothing for too long, and was killed.
    Silent,
    /// It took too long, and was killed.
    Late,
}

/// A machine that runs.
#[derive(Debug)]
pub(super) struct Machine {
    child: Child,
    lines: Receiver<String>,
    until: Instant,
}

impl Machine {
    /// Boots a kernel on an initramfs, for at most so long.
    pub(super) fn boot(
        arch: Arch,
        kernel: &Kernel,
        initramfs: &Path,
        most: Duration,
    ) -> Result<Self> {
        let (program, console) = match arch {
            Arch::X86 => ("qemu-system-x86_64", "ttyS0"),
            Arch::Arm => ("qemu-system-aarch64", "ttyAMA0"),
        };
        let package = if arch == Arch::X86 { "qemu-system-x86" } else { "qemu-system-arm" };
        require(program, package)?;
        let mut qemu = Command::new(program);
        qemu.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "3072"]);
        match arch {
            // A processor that claims to be quick with strings of bytes is given them byte by byte, and
            // a fifth level of page tables is one more to walk.
            Arch::X86 => qemu.args(["-cpu", "max,-erms,-fsrm,-la57", "-machine", "q35"]),
            // The pointer authentication of `max` is very slow to emulate.
            Arch::Arm => qemu.args(["-cpu", "max,pauth-impdef=on", "-machine", "virt"]),
        };
        qemu.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
        qemu.args(["-append", &format!("console={console} quiet loglevel=1 panic=-1 {QUICK}")]);
        qemu.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs);
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = qemu.spawn().with_context(|| program.to_owned())?;
        let output = BufReader::new(child.stdout.take().context("QEMU has no output")?);
        let (sender, lines) = sync_channel(AHEAD);
        std::thread::spawn(move || {
            // Until the machine ends, or nobody listens any more.
            let lines = output.split(b'\n').map_while(Result::ok);
            let text = |line: Vec<u8>| String::from_utf8_lossy(&line).trim_end().to_owned();
            lines.map(text).try_for_each(|line| sender.send(line)).unwrap_or_default();
        });
        Ok(Self { child, lines, until: Instant::now() + most })
    }

    /// Hands on every line until the end.
    pub(super) fn follow(mut self, mut line: impl FnMut(&str)) -> Result<End> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return self.kill(End::Late);
            }
            match self.lines.recv_timeout(left.min(SILENCE)) {
                Ok(said) => line(&said),
                Err(RecvTimeoutError::Timeout) if left > SILENCE => return self.kill(End::Silent),
                Err(RecvTimeoutError::Timeout) => return self.kill(End::Late),
                Err(RecvTimeoutError::Disconnected) => {
                    self.child.wait().context("QEMU")?;
                    return Ok(End::Off);
                }
            }
        }
    }

    fn kill(&mut self, end: End) -> Result<End> {
        self.child.kill().context("QEMU")?;
        self.child.wait().context("QEMU")?;
        Ok(end)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has ended, or nobody listens any more.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
