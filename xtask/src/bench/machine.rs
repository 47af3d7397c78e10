//! What a result was measured on, in one line.

use std::fs;
use std::thread;

use nix::sys::utsname::uname;

/// Kernel, processor and how busy it was.
pub(crate) fn describe() -> String {
    let kernel = uname().map_or_else(
        |_| "unknown kernel".into(),
        |names| format!("Linux {}", names.release().to_string_lossy()),
    );
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    format!("{kernel}, {} × {cores}, load {load} when it began", processor())
}

/// The processor's name for itself.
fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.to_owned())
}
