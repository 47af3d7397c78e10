//! The jail of a session: the one that was asked for, or the first that can be raised in full.
//!
//! *Standing*: [`run`](super::run) calls [`raise`] before anything else of the session exists, and
//! [`explained`] when a jail has failed it.
//! *Never*: raises less than was asked. A jail that was named and cannot be raised is an error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;

use super::Error;
use super::janitor::{Janitor, Remains};
use crate::config::Config;
use crate::jail::child::{self, Identity};
use crate::jail::probe::{self, Found, ORDER, Report};
use crate::jail::{self, Choice, Users, Walls, landjail, nsjail};
use crate::proxy::Doors;
use crate::rules::{Host, RuleSet};

/// A jail that stands, with nobody in it yet.
pub(super) struct Raised {
    /// The first process of the command's pid namespace.
    pub(super) janitor: Janitor,
    /// A line that ends when the usher does.
    pub(super) alarm: UnixStream,
    /// Where what is turned arrives.
    pub(super) doors: Doors,
    /// What turns it.
    pub(super) walls: Walls,
}

/// Raises the jail that was asked for.
pub(super) fn raise(
    config: &Config,
    remains: &Remains,
    identity: &Identity,
) -> Result<Raised, Error> {
    this(config.jail, config, remains, identity)
}

/// Raises the first jail that can be, and says which one stands, and why not an earlier one.
fn first(config: &Config, remains: &Remains, identity: &Identity) -> Result<Raised, Error> {
    let mut passed_over: Vec<String> = Vec::new();
    for jail in ORDER {
        match this(jail, config, remains, identity) {
            // What the kernel refuses is no mistake of the user's; a port that is taken is.
            Err(error @ (Error::Call(_) | Error::Walls(_))) => passed_over.push(error.to_string()),
            Ok(raised) => {
                let instead_of = passed_over.join("; ");
                tracing::info!(%jail, %instead_of, "auto: the first jail that can be raised here");
                return Ok(raised);
            }
            failed => return failed,
        }
    }
    Err(jail::Error::Nothing(passed_over.join("; ")).into())
}

/// Raises this jail, or the first that can be.
fn this(
    jail: Choice,
    config: &Config,
    remains: &Remains,
    identity: &Identity,
) -> Result<Raised, Error> {
    // Before there are processes: what has failed can be looked into.
    probe::before(jail).map_err(|call| jail::Error::Enclosure { jail, call })?;
    if matches!(jail, Choice::Nsjail | Choice::Landjail) && child::sends_crashes() {
        return Err(jail::Error::Crashes(jail).into());
    }
    match jail {
        Choice::Auto => first(config, remains, identity),
        Choice::Ebpf => of_ebpf(config, remains),
        Choice::Nsjail => of_nsjail(config, remains, identity),
        Choice::Landjail => of_landjail(config, remains),
    }
}

fn of_ebpf(config: &Config, remains: &Remains) -> Result<Raised, Error> {
    let (janitor, alarm) = Janitor::start(remains)
        .map_err(|call| jail::Error::Enclosure { jail: Choice::Ebpf, call })?;
    let doors = Doors::bind(config.proxy_port)?;
    let walls = Walls::of_ebpf(&remains.cgroup, &doors)?;
    if child::sends_crashes() && !walls.judge_unix() {
        return Err(jail::Error::Crashes(Choice::Ebpf).into());
    }
    Ok(Raised { janitor, alarm, doors, walls })
}

fn of_landjail(config: &Config, remains: &Remains) -> Result<Raised, Error> {
    let (janitor, alarm) = Janitor::start_outside(remains)
        .map_err(|call| jail::Error::Enclosure { jail: Choice::Landjail, call })?;
    let doors = Doors::bind(config.proxy_port)?;
    let walls = landjail::Walls::raise(&doors).map_err(jail::Error::Landjail)?;
    Ok(Raised { janitor, alarm, doors, walls: Walls::Landjail(walls) })
}

fn of_nsjail(config: &Config, remains: &Remains, identity: &Identity) -> Result<Raised, Error> {
    let is_proved = config.jail == Choice::Auto;
    let (janitor, alarm, walls, doors) = Janitor::start_in_namespaces(remains, is_proved, |init| {
        nsjail::Walls::raise(identity, (config.proxy_port, config.users), init)
    })
    .map_err(jail::Error::Nsjail)?;
    if walls.has_only_own_loopback() && names_loopback(&config.policy.rule_set()) {
        tracing::warn!(
            "the policy names loopback, and without tproxy nothing in nsjail reaches the machine's"
        );
    }
    Ok(Raised { janitor, alarm, doors, walls: Walls::Nsjail(walls) })
}

/// Whether a rule is for what the machine itself serves.
fn names_loopback(rules: &RuleSet) -> bool {
    let v4 = Host::from(IpAddr::from(Ipv4Addr::LOCALHOST));
    let v6 = Host::from(IpAddr::from(Ipv6Addr::LOCALHOST));
    let hosts = Host::parse("localhost").into_iter().chain([v4, v6]);
    hosts.into_iter().any(|host| rules.names_host(&host))
}

/// An error with the row of `boundary doctor` that decided it, where a jail has failed for want of
/// what it is made of.
pub(super) fn explained(error: Error, config: &Config, identity: &Identity) -> Error {
    let jail = config.jail;
    // The doctor tries nsjail as it is usually raised.
    let is_unusual = jail == Choice::Nsjail && config.users == Users::Machine;
    // And what the machine is set to says more than any row.
    let is_told = matches!(error, Error::Walls(jail::Error::Crashes(_)));
    if is_unusual
        || is_told
        || !matches!(error, Error::Call(_) | Error::Walls(_) | Error::Enclosure(_))
    {
        return error;
    }
    let report = Report::examine(identity);
    let jails = if jail == Choice::Auto { ORDER.to_vec() } else { vec![jail] };
    // What cannot be tried any more, now that the keeper's children have no namespace to live in, is
    // no reason.
    let obstacle =
        |jail: Choice| report.obstacle(jail).filter(|row| !matches!(row.found, Found::Failed(_)));
    let hindered = jails.iter().map(|jail| obstacle(*jail).map(|row| (*jail, row)));
    // A jail that nothing hinders has failed for another reason, which the error says.
    let Some(rows) = hindered.collect::<Option<Vec<_>>>() else { return error };
    let told = rows.iter().map(|(jail, row)| format!("jail {jail}: {row}"));
    let remedy = rows.iter().flat_map(|(_, row)| row.remedies.iter()).next();
    let told = told.collect::<Vec<_>>().join("; ");
    Error::Hindered { told, remedy: remedy.cloned().unwrap_or_default() }
}
