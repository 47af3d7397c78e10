//! What of the kernel boundary uses only where it is there, and what becomes of it elsewhere.

/// Something that not every kernel has.
#[derive(Debug)]
pub(super) struct Feature {
    /// As `tests/kernel/features.rs` tells of it.
    pub(super) name: &'static str,
    /// The first version of Linux that has it.
    pub(super) since: &'static str,
    /// What stands in its place, or is lost.
    pub(super) without: &'static str,
}

/// All of it.
pub(super) const FEATURES: &[Feature] = &[
    Feature {
        name: "hooks on calls to unix sockets",
        since: "6.7",
        without: "`ebpf` asks the usher about every call that may name one. A program that changes an \
                  address while it is checked gets past that, to a socket that a daemon binds after the \
                  start, outside the covered directories, or an abstract one. See \
                  [the threat model](threat-model.md#what-is-not-claimed).",
    },
    Feature {
        name: "Landlock",
        since: "5.13, where the kernel is built with it",
        without: "`landjail` is refused. In the others the command is in a pid namespace of its own, \
                  and sees no process to trace but its own.",
    },
    Feature {
        name: "Landlock's rules for connections",
        since: "6.7",
        without: "In `landjail` two walls are left of three before a connection: no filter hands \
                  `connect` to the kernel, and sockets are bound to the loopback device.",
    },
    Feature {
        name: "Landlock's scopes",
        since: "6.12",
        without: "Abstract unix sockets of the machine can be reached from the eBPF jail as paths can \
                  without the hooks; signals end at the pid namespace, but for those to the \
                  [foreground](threat-model.md#what-is-not-claimed). \
                  `nsjail` has abstract sockets of its own. `landjail` has no pid namespace: the \
                  usher is asked about every signal there, and sends those to the session's own \
                  processes.",
    },
    Feature {
        name: "Landlock's rules for unix sockets",
        since: "7.1",
        without: "In `nsjail` a datagram that gets its address after the usher has looked at it can reach a \
                  socket that a daemon binds after the start, outside the covered directories.",
    },
    Feature {
        name: "a cgroup is killed by one write",
        since: "5.14",
        without: "Its processes are killed one by one, until none is left.",
    },
    Feature {
        name: "an answered call cannot be interrupted",
        since: "5.19",
        without: "A signal that arrives while the usher acts has the call made again; so in \
                  `landjail` a signal is sent a moment after the call for it was answered, and in \
                  `nsjail` a connection that names no unix socket goes on in the kernel, which reads the \
                  address again.",
    },
    Feature {
        name: "a map is read by whom it was handed to",
        since: "5.19, where `kernel.unprivileged_bpf_disabled` keeps `bpf(2)` from users",
        without: "The proxy keeps `CAP_BPF`, and nothing else; it is let go where the kernel does not \
                  ask for it.",
    },
    Feature {
        name: "maps that are no locked memory",
        since: "5.11",
        without: "The limit of locked memory is lifted while they are made, where root asks.",
    },
];
