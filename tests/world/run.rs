//! The binary under test, or a command without it, as a child in the host.
//!
//! *Standing*: [`World::boundary`](super::World::boundary) makes a [`Run`]; it is either waited for
//! as a whole or started as a [`Session`] that a test signals and talks to.
//! *Never*: waits for ever. What hangs is killed and reported.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::container::Container;
use super::holders::Pipes;
use super::output::{KernelLog, Output, is_of_session, lines};
use super::processes::eventually;
use super::screen::Screen;
use super::terminal::Terminal;
use super::toll;
use super::{CREW, GUEST, World};

/// How long any run may take unless the test says otherwise.
const PATIENCE: Duration = Duration::from_mins(1);

/// What tells programs without boundary to trust the simulated internet.
const TRUST: &[&str] = &[
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "npm_config_cafile",
];

/// How long it may take without some walls: there, what should be refused at once hangs.
const PATIENCE_WITHOUT_WALLS: Duration = Duration::from_secs(10);

/// How long any run may take here.
fn patience() -> Duration {
    if has_walls() || is_to_compare() { PATIENCE } else { PATIENCE_WITHOUT_WALLS }
}

/// Whether every wall stands after all: to tell who fails without one from who fails anyway.
fn is_to_compare() -> bool {
    std::env::var_os("BOUNDARY_WITHOUT").is_some_and(|walls| walls == "nothing")
}

/// Whether every wall stands. Where one is left off, tests have only to notice that.
pub(crate) fn has_walls() -> bool {
    std::env::var_os("BOUNDARY_WITHOUT").is_none_or(|walls| walls.is_empty())
}

/// How long what a run started may hold its output open after it has ended.
const AFTERMATH: Duration = Duration::from_secs(30);

/// A run to be: options, command, environment, input.
pub(crate) struct Run<'w> {
    world: &'w World,
    line: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    input: Option<Vec<u8>>,
    audit: Option<PathBuf>,
    container: Option<Container>,
}

impl<'w> Run<'w> {
    /// Boundary with these options and this command.
    pub(crate) fn bounded(world: &'w World, options: &[&str], command: &[&str]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let audit = world.folder().join(format!("logs/audit-{number}.jsonl"));
        let mut line: Vec<OsString> = vec![binary().into()];
        line.extend(["--jail-type".into(), jail().into()]);
        line.extend(["--audit-log".into(), audit.clone().into()]);
        line.extend(["--upstream-ca".into(), world.folder().join("ca.pem").into()]);
        line.extend(options.iter().map(OsString::from));
        line.push("--".into());
        line.extend(command.iter().map(OsString::from));
        let run =
            Self { audit: Some(audit), container: Container::of_runs(), ..Self::of(world, line) };
        if is_users() && run.container.is_none() { run.for_user() } else { run }
    }

    /// A line, on the machine itself.
    fn of(world: &'w World, line: Vec<OsString>) -> Self {
        let environment = environment(world);
        Self { world, line, environment, input: None, audit: None, container: None }
    }

    /// As a user starts it: through sudo where the jail needs root, else without any right.
    fn for_user(self) -> Self {
        if jail() == "ebpf" { self.through_sudo() } else { self.by_guest() }
    }

    /// As the user `guest`, without any right.
    fn by_guest(self) -> Self {
        let (id, groups) = (GUEST.to_string(), format!("{GUEST},{CREW}"));
        self.under(&["setpriv", "--reuid", &id, "--regid", &id, "--groups", &groups])
    }

    /// As whoever starts boundary here.
    pub(crate) fn by_the_same_user(self) -> Self {
        if is_users() && self.container.is_none() { self.by_guest() } else { self }
    }

    /// A command alone, which trusts the simulated internet.
    pub(crate) fn bare(world: &'w World, command: &[&str]) -> Self {
        let run = Self::of(world, command.iter().map(OsString::from).collect());
        let authority = world.folder().join("ca.pem");
        let authority = authority.to_str().expect("our own name").to_owned();
        TRUST.iter().fold(run, |run, variable| run.env(variable, &authority))
    }

    /// The binary with exactly these arguments, nothing of the stage's added.
    pub(crate) fn exact(world: &'w World, arguments: &[&str]) -> Self {
        let mut line: Vec<OsString> = vec![binary().into()];
        line.extend(arguments.iter().map(OsString::from));
        Self { container: Container::of_runs(), ..Self::of(world, line) }
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// As sudo would start it for the user `guest`.
    pub(crate) fn through_sudo(self) -> Self {
        let id = GUEST.to_string();
        self.env("SUDO_UID", &id).env("SUDO_GID", &id).env("SUDO_USER", "guest")
    }

    /// Has another program start it, which gets the whole line as its last arguments.
    pub(crate) fn under(mut self, program: &[impl AsRef<OsStr>]) -> Self {
        let line = std::mem::take(&mut self.line);
        let program = program.iter().map(|word| word.as_ref().to_owned());
        self.line = program.chain(line).collect();
        self
    }

    /// Has it start in a container, which sees the world's folder and boundary's where they are.
    pub(crate) fn contained(self, container: Container) -> Self {
        Self { container: Some(container), ..self }
    }

    /// The line to start, and where the number of its first process will stand if that is another one.
    fn made(&self, on_terminal: bool) -> (Vec<OsString>, Option<PathBuf>) {
        let Some(container) = self.container else { return (self.line.clone(), None) };
        let made = container.make(self.world, &self.line, &self.environment, on_terminal);
        (made.line, Some(made.pid))
    }

    /// The command line so far.
    pub(crate) fn words(&self) -> Vec<String> {
        self.line.iter().map(|word| word.display().to_string()).collect()
    }

    /// Gives it something to read.
    pub(crate) fn input(mut self, text: &str) -> Self {
        self.input = Some(text.as_bytes().to_vec());
        self
    }

    /// Runs it to its end.
    pub(crate) fn output(self) -> Output {
        self.start().finish()
    }

    /// Starts it.
    pub(crate) fn start(self) -> Session<'w> {
        let kernel = KernelLog::open();
        self.world.settle();
        self.world.hand_over();
        let ((line, contained), input) = (self.made(false), self.input.clone());
        let (environment, folder) = (self.environment.clone(), self.world.folder().to_owned());
        let child = self.world.host().run(move || {
            let mut command = job(&line);
            command.env_clear().envs(&environment).current_dir(folder);
            command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            // A job of its own, as a shell starts it: the kernel stops no group that nobody watches.
            command.process_group(0);
            let mut child = command.spawn().unwrap_or_else(|error| {
                panic!("{}: {error}; is it built?", line[0].display());
            });
            if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
                // The program may end without reading all of it.
                std::thread::spawn(move || drop(stdin.write_all(&input)));
            }
            child
        });
        Session::new(self, child, contained, kernel)
    }

    /// Starts it on a terminal of its own, of 24 rows and 80 columns.
    pub(crate) fn on_terminal(self) -> (Session<'w>, Terminal) {
        let kernel = KernelLog::open();
        self.world.settle();
        self.world.hand_over();
        let (terminal, [stdin, stdout, stderr]) = Terminal::open();
        let ((line, contained), environment) = (self.made(true), self.environment.clone());
        let child = self.world.host().run(move || {
            // setsid makes the terminal the controlling one, which a shell does at login.
            let line = ["setsid", "--ctty", "--wait"].map(OsString::from).into_iter().chain(line);
            let mut command = job(&line.collect::<Vec<_>>());
            command.env_clear().envs(&environment);
            command.stdin(stdin).stdout(stdout).stderr(stderr);
            command.spawn().expect("setsid starts")
        });
        (Session::new(self, child, contained, kernel), terminal)
    }
}

/// A line that is to start as a shell starts a job: whoever ignores what a terminal sends (`nohup`, a script's
/// `&`) has the suite ignore it too, and all that it starts.
fn job(line: &[OsString]) -> Command {
    const OF_TERMINALS: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT];
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs is mounted");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    let ignored = ignored.expect("a set of signals");
    if OF_TERMINALS.iter().all(|signal| ignored >> (*signal as i32 - 1) & 1 == 0) {
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]);
        return command;
    }
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP,INT,QUIT").args(line);
    command
}

/// A run that is under way.
pub(crate) struct Session<'w> {
    run: Run<'w>,
    /// Ends what a failed test leaves behind.
    guard: Guard,
    ended: Receiver<ExitStatus>,
    stdout: Screen,
    stderr: Screen,
    pipes: Pipes,
    kernel: KernelLog,
}

/// Kills a run whose test has failed before its end: it would wait for ever, with whatever lock the
/// test's own caller holds.
struct Guard {
    pid: Pid,
    /// Where the number of a container's first process stands: it outlives who made it.
    contained: Option<PathBuf>,
    has_ended: Arc<AtomicBool>,
}

impl Guard {
    /// The first process of the container, once it is there.
    fn inner(&self) -> Option<Pid> {
        let told = std::fs::read_to_string(self.contained.as_ref()?).ok()?;
        told.trim().parse().ok().map(Pid::from_raw)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.has_ended.load(Ordering::Relaxed) {
            // That it has just ended by itself is fine.
            for pid in self.inner().into_iter().chain([self.pid]) {
                kill(pid, Signal::SIGKILL).unwrap_or_default();
            }
        }
    }
}

impl<'w> Session<'w> {
    /// Begins to collect what the child says and waits for it in a thread.
    fn new(run: Run<'w>, mut child: Child, contained: Option<PathBuf>, kernel: KernelLog) -> Self {
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let mut pipes = Pipes::default();
        child.stdout.iter().for_each(|pipe| pipes.note(pipe));
        child.stderr.iter().for_each(|pipe| pipes.note(pipe));
        let stdout = child.stdout.take().map_or_else(Screen::empty, Screen::collect);
        let stderr = child.stderr.take().map_or_else(Screen::empty, Screen::collect);
        let (report, ended) = sync_channel(1);
        let guard = Guard { pid, contained, has_ended: Arc::default() };
        let has_ended = Arc::clone(&guard.has_ended);
        std::thread::spawn(move || {
            let status = child.wait();
            has_ended.store(true, Ordering::Relaxed);
            // Nobody listens any more when the test has failed meanwhile.
            drop(status.map(|status| report.send(status)));
        });
        Self { run, guard, ended, stdout, stderr, pipes, kernel }
    }

    /// The child's process id; in a container, that of its first process.
    pub(crate) fn pid(&self) -> Pid {
        if self.guard.contained.is_none() {
            return self.guard.pid;
        }
        eventually("the container has a process", || self.guard.inner().is_some());
        self.guard.inner().expect("it was waited for")
    }

    /// Signals the child, and nobody else.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it is there");
    }

    /// Kills the child. That it has just ended by itself is fine.
    pub(crate) fn kill(&self) {
        let killed = kill(self.pid(), Signal::SIGKILL);
        assert!(matches!(killed, Ok(()) | Err(Errno::ESRCH)), "cannot be killed: {killed:?}");
    }

    /// Waits until a word stands on its stdout.
    pub(crate) fn wait_for(&self, word: &str) {
        self.wait_within(word, patience());
    }

    /// The same, for as long as something may take that is known to be long.
    pub(crate) fn wait_within(&self, word: &str, longest: Duration) {
        if !self.stdout.wait_for(word, longest) {
            self.kill();
            panic!(
                "{word:?} never came\nstdout: {}\nstderr: {}",
                self.stdout.read(),
                self.stderr.read()
            );
        }
    }

    /// What it has said so far on its stdout.
    pub(crate) fn told(&self) -> String {
        self.stdout.read()
    }

    /// What it has said so far on its stderr.
    pub(crate) fn complained(&self) -> String {
        self.stderr.read()
    }

    /// Waits for its end and gathers the scene.
    pub(crate) fn finish(self) -> Output {
        let in_time = self.ended.recv_timeout(patience());
        if in_time.is_err() {
            self.kill();
        }
        let hung = in_time.is_err();
        let status = in_time.or_else(|_| self.ended.recv_timeout(AFTERMATH));
        let closed = self.stdout.wait_for_end(AFTERMATH) && self.stderr.wait_for_end(AFTERMATH);
        let holders = if closed { String::new() } else { self.pipes.holders() };
        let world = self.run.world;
        let all = self.run.audit.as_deref().map(lines).unwrap_or_default();
        let output = Output {
            line: self.run.line.iter().map(|word| word.display().to_string()).collect(),
            status: status.ok(),
            stdout: self.stdout.read(),
            stderr: self.stderr.read(),
            session: all.iter().filter(|it| is_of_session(it)).cloned().collect(),
            records: all.into_iter().filter(|it| !is_of_session(it)).collect(),
            packets: world.packets(),
            requests: world.requests(),
            questions: world.questions(),
            kernel: self.kernel.read(),
        };
        toll::pay(self.run.audit.is_some(), &output.line, &output.packets);
        output.expect(!hung, "it ends without being killed");
        output.expect(
            closed,
            &format!("nothing of it holds its output open after its end, as these do:\n{holders}"),
        );
        output
    }
}

/// The binary under test: named by `BOUNDARY_BIN`, else beside this test's folder.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("BOUNDARY_BIN").map_or_else(
        || {
            let own = std::env::current_exe().expect("the test's own path");
            own.ancestors().nth(2).expect("target/PROFILE/deps/test").join("boundary")
        },
        PathBuf::from,
    )
}

/// The jail that the journeys go through.
pub(crate) fn jail() -> String {
    std::env::var("BOUNDARY_TEST_JAIL").unwrap_or_else(|_| "ebpf".to_owned())
}

/// Whether boundary is started as a user rather than as root (`BOUNDARY_TEST_AS=user`).
pub(super) fn is_users() -> bool {
    std::env::var_os("BOUNDARY_TEST_AS").is_some_and(|who| who == "user")
}

/// The number of whom a command runs as where a test does not say so.
pub(crate) fn user() -> String {
    if is_users() { GUEST.to_string() } else { "0".to_owned() }
}

/// What every run starts with: nothing of the test process's own proxies and bundles.
fn environment(world: &World) -> BTreeMap<OsString, OsString> {
    let temporary = world.folder().join("tmp");
    let temporary = temporary.to_str().expect("our own name");
    // Not the machine's: what its owner configured there is nobody's business here.
    let home = world.folder().join("root");
    let home = home.to_str().expect("our own name");
    [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", home),
        ("LANG", "C.UTF-8"),
        ("TMPDIR", temporary),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into_iter()
    // Which walls a build that can do so leaves off.
    .chain(std::env::var_os("BOUNDARY_WITHOUT").map(|walls| ("BOUNDARY_WITHOUT".into(), walls)))
    .collect()
}
