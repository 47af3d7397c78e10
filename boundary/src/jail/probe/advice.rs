//! What to do about a primitive that is refused: the capability, the switch, the profile, the line
//! of a seccomp filter.
//!
//! *Never*: asks what the environment is called. Each piece of advice comes with a fact that makes
//! it fit: a switch that is off, a capability that is not there, a filter that is in force.

use std::fs;

use nix::errno::Errno;

use super::Primitive;
use crate::jail::Choice;
use crate::sys::process;

/// `CAP_SYS_ADMIN` of linux/capability.h.
const SYS_ADMIN: u32 = 21;

/// What may help.
pub(super) fn on(primitive: &Primitive, error: Errno) -> Vec<String> {
    let mut advice = Vec::new();
    let is = |word: &str| primitive.name.contains(word);
    if matches!(error, Errno::EPERM | Errno::EACCES) {
        refused(primitive, &mut advice);
    } else if error == Errno::EBUSY && is("seccomp") {
        advice.push(
            "somebody above already listens (WSL, an LXD interception, boundary itself): run \
             boundary outside of that"
                .to_owned(),
        );
    } else if error == Errno::EROFS && is("cgroup2") {
        advice.push("mount /sys/fs/cgroup writeable, e.g. docker run --privileged".to_owned());
    } else if error == Errno::EINVAL && is("mounts") {
        advice.push(
            "the root is no mount, as in a plain chroot: mount --bind DIR DIR before chroot DIR"
                .to_owned(),
        );
    } else if error == Errno::ENOSPC && is("namespace") {
        advice.push("raise the limits: sysctl user.max_user_namespaces=10000, and its like".into());
    }
    if advice.is_empty() && !primitive.needs.is_empty() {
        advice.push(format!("needs {}", primitive.needs));
    }
    advice
}

/// About what was refused for want of a right.
fn refused(primitive: &Primitive, advice: &mut Vec<String>) {
    let is = |word: &str| primitive.name.contains(word);
    if primitive.jails == [Choice::Ebpf] {
        if is_filtered() && is("pidfd_getfd") {
            advice.push("allow pidfd_getfd in the seccomp profile: --cap-add SYS_PTRACE".into());
        } else if is("cgroup2") {
            advice.push("run it as root (sudo boundary …), with cgroup2 writeable".into());
        } else {
            advice.push("run it as root (sudo boundary …), or docker run --privileged".into());
        }
        return;
    }
    if is("pidfd_getfd") && is_filtered() {
        advice.push("allow pidfd_getfd in the seccomp profile: --cap-add SYS_PTRACE".into());
        return;
    }
    if is("settings") {
        advice.push(
            "leave /proc/sys read-only, as engines have it without systempaths=unconfined; or \
             --cap-add SYS_ADMIN; or run it as a user"
                .into(),
        );
        return;
    }
    if is("procfs") {
        advice.push(
            "parts of /proc are covered: docker run --security-opt systempaths=unconfined, or \
             procMount: Unmasked in Kubernetes"
                .into(),
        );
        return;
    }
    if is_set("kernel/apparmor_restrict_unprivileged_userns", "1") {
        advice.push(
            "install deploy/apparmor/boundary below /etc/apparmor.d and run apparmor_parser -r on \
             it"
            .into(),
        );
    }
    if is_set("kernel/unprivileged_userns_clone", "0") {
        advice.push("sysctl kernel.unprivileged_userns_clone=1".into());
    }
    if is_set("user/max_user_namespaces", "0") {
        advice.push("sysctl user.max_user_namespaces=10000".into());
    }
    if is_filtered() && !process::has_capability(SYS_ADMIN) {
        advice.push(
            "allow unshare, clone, setns and mount in the seccomp profile (docker run \
             --security-opt seccomp=PROFILE)"
                .into(),
        );
    }
}

/// Whether a switch of the kernel has this value.
fn is_set(switch: &str, value: &str) -> bool {
    fs::read_to_string(format!("/proc/sys/{switch}")).is_ok_and(|text| text.trim() == value)
}

/// Whether a filter of system calls is in force here (proc(5): `Seccomp` is 2).
fn is_filtered() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|it| it.trim() == "2"))
}
