//! What tells the command of a session from everybody else: what its walls leave on it, as proc(5) has it.
//!
//! *Standing*: whoever hands somebody what no command is to have asks first, with a handle that says whether
//! the number is still that process's. *Never*: says of whom nothing can be read that he is none.

use std::fs;

use nix::unistd::Pid;

/// What walls leave on a process for good, as procfs tells it to everybody.
#[derive(Debug, PartialEq, Eq)]
struct Confinement {
    /// How deep its pid namespace is below ours.
    depth: usize,
    /// How many filters of system calls it is under; before Linux 5.9, whether there is one.
    filters: u64,
    /// Whether it can gain no privilege.
    no_new_privs: u64,
}

impl Confinement {
    /// Those of a process, if it is there.
    fn of(process: &str) -> Option<Self> {
        // Its name is in there, which may be no text.
        let status = fs::read(format!("/proc/{process}/status")).ok()?;
        Some(Self::parse(&String::from_utf8_lossy(&status)))
    }

    fn parse(status: &str) -> Self {
        let field = |name: &str| {
            let line = |line| str::strip_prefix(line, name)?.strip_prefix(':');
            status.lines().find_map(line).map(str::trim)
        };
        let number = |name: &str| field(name).and_then(|text| text.parse().ok());
        Self {
            depth: field("NSpid").map_or(0, |numbers| numbers.split_ascii_whitespace().count()),
            filters: number("Seccomp_filters").or_else(|| number("Seccomp")).unwrap_or_default(),
            no_new_privs: number("NoNewPrivs").unwrap_or_default(),
        }
    }
}

/// Whether a process is in our own pid namespace and not in one below, as a command is in two of the
/// jails.
pub fn is_beside(process: Pid) -> bool {
    let (own, other) = (Confinement::of("self"), Confinement::of(&process.to_string()));
    own.zip(other).is_some_and(|(own, other)| own.depth > 0 && own.depth == other.depth)
}

/// Whether a process is behind no session's walls.
///
/// Every jail puts a filter on its command, which it never sheds, and forbids it new privileges; in the third
/// it has no pid namespace. A container may do that to everybody in it: so what counts is whether there is
/// more of it than on ourselves.
pub fn is_no_command(process: Pid) -> bool {
    let (own, other) = (Confinement::of("self"), Confinement::of(&process.to_string()));
    own.zip(other).is_some_and(|(own, other)| {
        let is_freer = other.filters <= own.filters && other.no_new_privs <= own.no_new_privs;
        own.depth > 0 && own.depth == other.depth && is_freer
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walls_are_read_off_a_process() {
        let status = "Name:\tx\nNSpid:\t31\t7\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n";
        let confinement = Confinement { depth: 2, filters: 3, no_new_privs: 1 };
        assert_eq!(Confinement::parse(status), confinement);
        let older = "NSpid:\t31\nNoNewPrivs:\t0\nSeccomp:\t2\n";
        assert_eq!(
            Confinement::parse(older),
            Confinement { depth: 1, filters: 2, no_new_privs: 0 }
        );
    }
}
