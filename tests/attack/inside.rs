//! What a program can find out or do to the session without an internet socket.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Arguments, name, sys, usage};

/// `fds`: every descriptor above 2 that came with us.
pub(crate) fn fds(_arguments: &Arguments) -> io::Result<Value> {
    let mut open = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(|text| text.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        // The listing itself is one.
        let own = link.starts_with("/proc") && link.ends_with("fd");
        if number > 2 && !own {
            open.insert(number, link);
        }
    }
    Ok(json!(open))
}

/// `status`: who the kernel says we are, and what we may.
pub(crate) fn status(_arguments: &Arguments) -> io::Result<Value> {
    let text = fs::read_to_string("/proc/self/status")?;
    let fields: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(field, value)| (field, value.trim()))
        .collect();
    Ok(json!(fields))
}

/// `tiocsti`: types a letter into the terminal that the caller of boundary reads from.
pub(crate) fn tiocsti(_arguments: &Arguments) -> io::Result<Value> {
    sys::push_key(0, b'x')?;
    Ok(json!({}))
}

/// `syscall NAME [PID]`: a call that the walls must refuse.
pub(crate) fn syscall(arguments: &Arguments) -> io::Result<Value> {
    let other: i64 = arguments.value(1).unwrap_or(1);
    let answer = match arguments.text(0)? {
        "bpf" => sys::with_buffer(libc::SYS_bpf, 0, 120)?,
        "io-uring" => sys::with_buffer(libc::SYS_io_uring_setup, 4, 120)?,
        "io-uring-enter" => sys::bare(libc::SYS_io_uring_enter, [-1, 0, 0])?,
        "io-uring-register" => sys::bare(libc::SYS_io_uring_register, [-1, 0, 0])?,
        "unshare-net" => sys::bare(libc::SYS_unshare, [flag(libc::CLONE_NEWNET), 0, 0])?,
        "unshare-user" => sys::bare(libc::SYS_unshare, [flag(libc::CLONE_NEWUSER), 0, 0])?,
        "keyctl" => sys::bare(libc::SYS_keyctl, [0, -3, 0])?,
        "request-key" => {
            sys::with_texts(libc::SYS_request_key, c"dns_resolver", c"leak.denied.test")?
        }
        "clone-net" => sys::bare(libc::SYS_clone, [flag(libc::CLONE_NEWNET), 0, 0])?,
        "clone3" => sys::with_buffer(libc::SYS_clone3, 0, 0)?,
        "setns" => sys::bare(libc::SYS_setns, [0, 0, 0])?,
        "open-by-handle" => sys::with_buffer(libc::SYS_open_by_handle_at, 0, 32)?,
        "getfd" => sys::bare(libc::SYS_pidfd_getfd, [0, 0, 0])?,
        "perf" => sys::with_buffer(libc::SYS_perf_event_open, 0, 0)?,
        "mount" => sys::with_texts(libc::SYS_mount, c"none", c"/mnt")?,
        "write-memory" => sys::write_memory(other)?,
        "ptrace" => sys::bare(libc::SYS_ptrace, [0x4206, other, 0])?,
        "kill" => sys::bare(libc::SYS_kill, [other, 0, 0])?,
        "thread-kill" => sys::bare(libc::SYS_tgkill, [other, other, 0])?,
        "limits" => sys::bare(libc::SYS_prlimit64, [other, 7, 0])?,
        "vhost-owner" => sys::bare(libc::SYS_ioctl, [0, 0xaf01, 0])?,
        "priority" => sys::bare(libc::SYS_setpriority, [0, other, 0])?,
        "pidfd" => sys::bare(libc::SYS_pidfd_open, [other, 0, 0])?,
        _ => return Err(usage("no such call")),
    };
    Ok(json!({ "answer": answer }))
}

/// `programs`: the numbers of all BPF programs that the kernel holds.
pub(crate) fn programs(_arguments: &Arguments) -> io::Result<Value> {
    let mut all = Vec::new();
    let mut last = 0;
    while let Some(next) = sys::next_program(last)? {
        all.push(next);
        last = next;
    }
    Ok(json!(all))
}

/// A clone flag as a register.
fn flag(bits: i32) -> i64 {
    i64::from(bits)
}

/// `signals N`: says `ready`, then each signal's name as it comes; ends after N of them.
pub(crate) fn signals(arguments: &Arguments) -> io::Result<Value> {
    let wanted: usize = arguments.value(0)?;
    let set = sys::block(&[
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGWINCH,
        libc::SIGUSR1,
    ])?;
    crate::say("ready");
    let mut seen = Vec::new();
    while seen.len() < wanted {
        let signal = sys::next_signal(&set)?;
        let mut line = format!("signal {}", name::signal(signal));
        if signal == libc::SIGWINCH
            && let Ok((rows, columns)) = sys::terminal_size()
        {
            line = format!("{line} {rows}x{columns}");
        }
        crate::say(&line);
        seen.push(name::signal(signal));
    }
    Ok(json!(seen))
}

/// `comet FILE`: a process that starts another one and ends, which does so in its turn, and so on for two
/// minutes; nobody lives long enough to be looked at. Each of them holds a lock on the file.
pub(crate) fn comet(arguments: &Arguments) -> io::Result<Value> {
    const FLIGHT: Duration = Duration::from_mins(2);
    let held = File::open(arguments.text(0)?)?;
    held.lock()?;
    if !sys::fork()? {
        std::thread::sleep(Duration::from_millis(200));
        return Ok(json!({}));
    }
    nix::unistd::setsid()?;
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&nothing)?;
    nix::unistd::dup2_stdout(&nothing)?;
    nix::unistd::dup2_stderr(&nothing)?;
    let landing = Instant::now() + FLIGHT;
    while Instant::now() < landing {
        std::thread::sleep(Duration::from_micros(60));
        // Where there is no room for another one this one goes on.
        if matches!(sys::fork(), Ok(false)) {
            sys::exit();
        }
    }
    sys::exit();
}
