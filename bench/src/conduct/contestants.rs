//! Who takes part: no proxy at all, boundary, the least that a proxy can be, and the peers.
//!
//! Each is started as its manual says, with the settings that it has by itself, and told only where
//! to listen, what to sign with and whom to believe. A peer that does not start is left out, and
//! that is said.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::User;

use super::Plan;
use super::agent::{Agent, Helper, bound, own};
use super::memory::{self, Spent};
use crate::authority::Authority;
use crate::load::{Outcome, Task};
use crate::say;

/// Makes leaves for squid, on Debian.
const CERTGEN: &str = "/usr/lib/squid/security_file_certgen";

/// Who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// No proxy: what everything is compared with.
    Direct,
    /// Boundary as it is by itself.
    Boundary,
    /// Boundary, with the record written to a file.
    Recording,
    /// The least that a proxy can be.
    Minimal,
    /// A proxy that others made.
    Peer(&'static str),
}

impl Who {
    /// The name in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Boundary => "boundary",
            Self::Recording => "boundary, recording",
            Self::Minimal => "minimal prototype",
            Self::Peer(name) => name,
        }
    }
}

/// One that takes part.
pub(super) struct Contestant {
    /// Who it is.
    pub(super) who: Who,
    agent: Agent,
    /// The proxy, where the load does not run inside it. Declared after the load, so that it ends
    /// after it.
    helper: Option<Helper>,
}

impl Contestant {
    /// Has its load do something, and notes what the proxy spent meanwhile.
    pub(super) fn perform(&mut self, task: &Task) -> Result<Outcome> {
        self.perform_and_settle(task, Duration::ZERO)
    }

    /// The same, where the proxy has something left to do afterwards that is its own.
    pub(super) fn perform_and_settle(&mut self, task: &Task, within: Duration) -> Result<Outcome> {
        let spent = |root: Option<u32>| root.map(memory::spent).transpose();
        let before = spent(self.root())?;
        let mut outcome = self.agent.perform(task)?;
        thread::sleep(within);
        let after = spent(self.root())?;
        #[expect(clippy::cast_precision_loss, reason = "a count of seconds fits")]
        let count = outcome.count.max(1) as f64;
        let spent = |of: fn(Spent) -> Duration| {
            let spent = of(after?).saturating_sub(of(before?));
            Some(spent.as_secs_f64() * 1e6 / count)
        };
        outcome.spent = spent(|spent| spent.all);
        outcome.writers = spent(|spent| spent.writers);
        Ok(outcome)
    }

    /// Memory and descriptors of the proxy's processes; none where there is no proxy.
    pub(super) fn usage(&self) -> Result<Option<memory::Usage>> {
        self.root().map(memory::usage).transpose()
    }

    /// Forgets the most memory that its processes had so far.
    pub(super) fn forget_peak(&self) -> Result<()> {
        self.root().map_or(Ok(()), memory::forget_peak)
    }

    /// The first of the proxy's processes.
    fn root(&self) -> Option<u32> {
        match (self.who, &self.helper) {
            (Who::Boundary | Who::Recording, _) => Some(self.agent.pid()),
            (_, Some(helper)) => Some(helper.pid()),
            (_, None) => None,
        }
    }
}

/// Starts a peer: its program, the folder of the run.
type Start = fn(&Path, &Path) -> Result<Contestant>;

/// Starts everybody.
pub(super) fn start(plan: &Plan, folder: &Path) -> Result<Vec<Contestant>> {
    let mut all = vec![direct(folder)?, boundary(plan, folder, Who::Boundary)?];
    all.push(minimal(folder)?);
    Authority::new("the peers' authority")?.write(folder, "peers")?;
    let peers: [(_, &Option<PathBuf>, Start); 3] = [
        ("hudsucker", &plan.hudsucker, hudsucker),
        ("squid", &plan.squid, squid),
        ("mitmproxy", &plan.mitmdump, mitmproxy),
    ];
    for (name, program, start) in peers {
        let Some(program) = program else { continue };
        match start(program, folder) {
            Ok(contestant) => all.push(contestant),
            Err(error) => say(&format!("bench: without {name}: {error:#}")),
        }
    }
    all.push(boundary(plan, folder, Who::Recording)?);
    Ok(all)
}

/// A load's command, believing the certificates of a file.
fn load(folder: &Path, roots: &str) -> Result<Command> {
    let mut command = own("load")?;
    command.arg("--roots").arg(folder.join(roots));
    Ok(command)
}

/// No proxy.
fn direct(folder: &Path) -> Result<Contestant> {
    let agent = Agent::start(load(folder, "origin.pem")?)?;
    Ok(Contestant { who: Who::Direct, agent, helper: None })
}

/// Boundary as users get it: a session on eBPF, with the load as the command inside.
pub(super) fn boundary(plan: &Plan, folder: &Path, who: Who) -> Result<Contestant> {
    let session = session(&plan.boundary, folder, |command| {
        if who == Who::Recording {
            command.arg("--audit-log").arg(folder.join("audit.jsonl"));
        }
        Ok(())
    })?;
    Ok(Contestant { who, ..session })
}

/// A session with options of its own.
pub(super) fn session(
    program: &Path,
    folder: &Path,
    configure: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<Contestant> {
    let mut command = Command::new(program);
    // Nobody's own policy is measured.
    command.env("XDG_CONFIG_HOME", folder.join("no-configuration"));
    command.args(["--jail-type", "ebpf", "--allow", "domain=rsa.test,ecdsa.test"]);
    command.arg("--upstream-ca").arg(folder.join("origin.pem"));
    configure(&mut command)?;
    command.arg("--").arg(std::env::current_exe()?).arg("load");
    Ok(Contestant { who: Who::Boundary, agent: Agent::start(command)?, helper: None })
}

/// The least that a proxy can be. Nothing is asked of it by name.
fn minimal(folder: &Path) -> Result<Contestant> {
    let address = SocketAddr::from(([127, 0, 0, 1], 7001));
    let mut command = own("minimal")?;
    command.arg("--listen").arg(address.to_string());
    command.arg("--roots").arg(folder.join("origin.pem")).arg("--folder").arg(folder);
    let helper = Some(Helper::listening(command, address)?);
    let mut load = load(folder, "minimal.pem")?;
    load.arg("--at").arg(address.to_string());
    Ok(Contestant { who: Who::Minimal, agent: Agent::start(load)?, helper })
}

/// A peer that listens at an address, and a load that goes through it.
fn peer(
    name: &'static str,
    command: Command,
    port: u16,
    (folder, roots): (&Path, &str),
) -> Result<Contestant> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let helper = Helper::listening(command, address)?;
    let mut load = load(folder, roots)?;
    load.arg("--through").arg(address.to_string());
    let mut agent = Agent::start(load)?;
    agent.perform(&Task::Requests { connections: 1, millis: 1 })?;
    Ok(Contestant { who: Who::Peer(name), agent, helper: Some(helper) })
}

fn hudsucker(program: &Path, folder: &Path) -> Result<Contestant> {
    let mut command = bound(program);
    command.arg("127.0.0.1:7002");
    command.args(["peers.key", "peers.pem", "origin.pem"].map(|name| folder.join(name)));
    peer("hudsucker", command, 7002, (folder, "peers.pem"))
}

fn mitmproxy(program: &Path, folder: &Path) -> Result<Contestant> {
    let (own, roots) = (folder.join("mitmproxy"), folder.join("origin.pem"));
    let set = |name: &str, path: &Path| format!("{name}={}", path.display());
    let mut command = bound(program);
    command.args(["--quiet", "--listen-host", "127.0.0.1", "--listen-port", "7004"]);
    command.args(["--set", &set("confdir", &own)]);
    command.args(["--set", &set("ssl_verify_upstream_trusted_ca", &roots)]);
    peer("mitmproxy", command, 7004, (folder, "mitmproxy/mitmproxy-ca-cert.pem"))
}

/// squid gives up root for a user of its own, which has to own what it writes.
fn squid(program: &Path, folder: &Path) -> Result<Contestant> {
    let user = User::from_name("proxy")?.context("squid's user `proxy` is not there")?;
    let own = folder.join("squid");
    fs::create_dir(&own)?;
    let settings = own.join("squid.conf");
    let database = own.join("leaves");
    fs::write(&settings, squid_settings(folder, &own))?;
    fs::copy(folder.join("peers.both"), own.join("authority.pem"))?;
    for path in [&own, &own.join("authority.pem")] {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    let as_user = |program: &OsStr| {
        let mut command = bound(program);
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir(&own);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut certgen = as_user(CERTGEN.as_ref());
    let made = certgen.arg("-c").arg("-s").arg(&database).args(["-M", "64MB"]).status();
    ensure!(made.context(CERTGEN)?.success(), "{CERTGEN} could not make its database");
    let mut command = as_user(program.as_os_str());
    command.args(["-N", "-f"]).arg(&settings);
    peer("squid", command, 7003, (folder, "peers.pem"))
}

/// The settings of a squid that opens TLS and keeps no copies.
fn squid_settings(folder: &Path, own: &Path) -> String {
    let (folder, own) = (folder.display(), own.display());
    format!(
        "http_port 127.0.0.1:7003 ssl-bump tls-cert={own}/authority.pem \
         generate-host-certificates=on dynamic_cert_mem_cache_size=64MB\n\
         sslcrtd_program {CERTGEN} -s {own}/leaves -M 64MB\n\
         sslcrtd_children 8 startup=4\n\
         tls_outgoing_options cafile={folder}/origin.pem\n\
         ssl_bump bump all\n\
         http_access allow all\n\
         cache deny all\n\
         access_log none\n\
         cache_log {own}/cache.log\n\
         pid_filename none\n\
         netdb_filename none\n\
         pinger_enable off\n\
         visible_hostname bench\n\
         max_filedescriptors 16384\n\
         shutdown_lifetime 0 seconds\n"
    )
}
