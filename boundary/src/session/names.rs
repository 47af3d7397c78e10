//! What the machine's files say of names, read before the command may have changed them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use nix::unistd::{AccessFlags, access, geteuid};

use crate::audit::Recorder;
use crate::config::Config;
use crate::dns::{Directory, Forwarder, Pins, Resolver, hosts_file, search_domains};
use crate::jail::Choice;
use crate::proxy::Egress;
use crate::rules::Policies;

/// The files that the system's resolver goes by, the folder in which they could be exchanged, and the one
/// from which it loads what they name.
const READ: [&str; 7] = [
    "/etc",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/usr/lib",
];

/// The two that count: without them there is no search list, and nothing in the hosts file.
fn files() -> (String, String) {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    (read("/etc/hosts"), read("/etc/resolv.conf"))
}

/// No names yet, and the search list that the command's programs put behind names. Where no file says any
/// it is the domain of the machine's own name (resolv.conf(5)).
pub(super) fn pins() -> Pins {
    let (_, resolv_conf) = files();
    let own = || {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let domain = name.trim().split_once('.').map(|(_, domain)| domain.to_ascii_lowercase());
        domain.filter(|domain| !domain.is_empty())
    };
    search_domains(&resolv_conf).map_or_else(|| Pins::within(own()), Pins::searching)
}

/// The resolver, and what the host's files say of names. They are read now, before the command may
/// have changed them.
pub(super) fn resolver(
    config: &Config,
    (pins, rules): (&Arc<Pins>, &Arc<Policies>),
    recorder: &Recorder,
) -> Resolver {
    let (hosts, resolv_conf) = files();
    for (host, address) in hosts_file(&hosts) {
        pins.note(&host, address);
    }
    let resolver = Resolver::new(Arc::clone(pins), Arc::clone(rules), recorder.clone());
    if config.real_dns { resolver.forwarding(Forwarder::new(&resolv_conf)) } else { resolver }
}

/// The way out that the user described, and where names are for it.
pub(super) fn egress(config: &Config, jail: Choice) -> Egress {
    Egress { directory: directory(jail), ..config.egress.clone() }
}

/// Where names are for the proxy, if the system's resolver is not to be asked: `landjail` covers no files in
/// most places, and a command that may write these would lead an allowed name wherever it likes.
fn directory(jail: Choice) -> Option<Arc<Directory>> {
    // The proxy is the command's user by now.
    let may_write = |path: &str| access(Path::new(path), AccessFlags::W_OK).is_ok();
    let is_exposed = geteuid().is_root() || READ.into_iter().any(may_write);
    if jail != Choice::Landjail || !is_exposed {
        return None;
    }
    let (hosts, resolv_conf) = files();
    Some(Arc::new(Directory::new(&hosts, &resolv_conf)))
}
