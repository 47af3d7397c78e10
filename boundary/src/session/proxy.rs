//! The proxy's process: no privilege, no rights over the walls, readable by nobody.
//!
//! *Standing*: forked by the keeper with the doors and what the walls let it see; its runtime
//! starts after the fork. It ends when the keeper's line does, after everything is on record.
//! *Never*: changes a wall.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::SigSet;
use nix::unistd::{Pid, getppid, setsid};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use uuid::Uuid;

use super::bounds::bounds;
use super::channel::{Channel, Message, used_in};
use super::control::{About, Control, Door};
use super::learn::Book;
use super::windows::{Shown, Windows};
use super::{Error, chain, faults, frugal, gauges, names, stdio};
use crate::audit::{Recorder, Session, Sinks, Usage};
use crate::ca::Authority;
use crate::config::Config;
use crate::control;
use crate::dns::Pins;
use crate::jail::child::Identity;
use crate::jail::usher::{Entry, Reports, Told};
use crate::jail::{Call, Choice, Lent, Refusals, Ring, Walls};
use crate::proxy::{Doors, Parts, Proxy};
use crate::rules::{DomainMatch, Policies};
use crate::session::prompt::{Desk, Opened};
use crate::sys::readiness::readable;
use crate::sys::{memory, process};

/// How long the record may take to reach the disk when the session is over.
const FLUSH: Duration = Duration::from_secs(3);

/// How long the proxy may take to end before it is killed, its connections' time left out: three flushes.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many threads serve connections at the most; more bring nothing (docs/performance.md).
const MAX_WORKERS: usize = 4;

/// The keeper's hold on the proxy.
#[derive(Debug)]
pub(super) struct ProxyProcess {
    pid: Pid,
    line: Option<Channel>,
    certificate: Vec<u8>,
    patience: Duration,
}

impl ProxyProcess {
    /// Starts the proxy; [`Self::ready`] waits until it listens.
    pub(super) fn start(setup: Setup<'_>) -> Result<Self, Error> {
        let (line, far) = Channel::pair().map_err(Call::to("socketpair"))?;
        line.bound(super::START).map_err(Call::to("setsockopt"))?;
        let patience = setup.config.limits.drain.saturating_add(PATIENCE);
        let pid = process::fork(|| setup.live(far)).map_err(Call::to("fork"))?;
        Ok(Self { pid, line: Some(line), certificate: Vec::new(), patience })
    }

    /// Waits until the proxy is ready.
    pub(super) fn ready(&mut self) -> Result<(), Error> {
        let Some(line) = &mut self.line else { return Err(Error::Lost("proxy")) };
        match line.receive().map_err(Call::to("read(proxy)"))? {
            Some(Message::Ready(certificate)) => {
                self.certificate = certificate;
                Ok(())
            }
            Some(Message::Failed(why)) => Err(Error::Proxy(why)),
            Some(_) | None => Err(Error::Lost("proxy")),
        }
    }

    /// The proxy's process.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// The certificate of the session's authority, PEM.
    pub(super) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Tells it that the walls are proved, and what they refuse from now on is the command's doing.
    pub(super) fn go(&mut self) -> Result<(), Call> {
        match &mut self.line {
            Some(line) => line.send(&Message::Go).map_err(Call::to("write(proxy)")),
            None => Ok(()),
        }
    }

    /// Tells it what the command used, and that this was all: it writes down what it knows.
    pub(super) fn conclude(&mut self, usage: Usage) {
        if let Some(line) = &mut self.line {
            // One that is gone has no use for it.
            drop(line.send(&Message::Used(usage)).and_then(|()| line.conclude()));
        }
    }

    /// Waits until everything is written down. False if it did not come to that. That it is gone is
    /// made sure of when this is dropped.
    pub(super) fn await_record(&mut self) -> bool {
        self.line.take().is_some_and(|line| line.await_end(self.patience))
    }
}

impl Drop for ProxyProcess {
    fn drop(&mut self) {
        self.await_record();
        if !process::end(self.pid, super::END) {
            tracing::debug!("the proxy waits for a disk and is left to end when that answers");
        }
    }
}

/// What the proxy's process is made of, on the child's side of the fork.
pub(super) struct Setup<'a> {
    /// What was asked for.
    pub(super) config: &'a Config,
    /// The session's id.
    pub(super) session: Uuid,
    /// Who the command is.
    pub(super) identity: &'a Identity,
    /// Where what is turned arrives.
    pub(super) doors: Doors,
    /// Where the record goes.
    pub(super) sinks: Sinks,
    /// Where a session that runs is asked and told.
    pub(super) control: Door,
    /// Who is asked where no rule permits a request.
    pub(super) prompt: Option<Opened>,
    /// What lends it origins and refusals.
    pub(super) walls: &'a Walls,
}

/// What a process of the session says when it cannot go on: one line for the user.
type Said = Box<dyn std::error::Error>;

impl Setup<'_> {
    /// The process's whole life; its exit status.
    fn live(self, mut line: Channel) -> u8 {
        let said = match self.prepare(&line) {
            Ok((service, certificate)) => match line.send(&Message::Ready(certificate)) {
                Ok(()) => service.run(line.into_stream()),
                Err(error) => Err(error.into()),
            },
            // The keeper tells the user; where it is gone, nobody else does.
            Err(why) => match line.send(&Message::Failed(chain(&*why))) {
                Ok(()) => return 1,
                Err(_) => Err(why),
            },
        };
        match said {
            Ok(()) => 0,
            Err(error) => {
                tracing::error!(error = chain(&*error), "the proxy ended");
                1
            }
        }
    }

    /// Gives up every right, then makes everything that serves.
    fn prepare(mut self, line: &Channel) -> Result<(Service, Vec<u8>), Said> {
        let Lent { origin, refusals, reports, needs, home, descriptors: mut kept } =
            self.walls.lend()?;
        kept.push(line.as_raw_fd());
        kept.extend(self.descriptors());
        process::keep_only(&kept)?;
        // A port may take a right.
        let windows = Windows::open(self.config)?;
        self.give_up(needs)?;
        let desk = self.prompt.take().map(Desk::open).transpose();
        let (desk, prompt) = desk.map_err(|error| format!("--prompt: {error}"))?.unzip();
        let (about, meters) = (self.recorded(), windows.meters());
        let book = self.book()?;
        let described = self.described();
        let recorder = Recorder::start(self.sinks, about.clone())?;
        if let Some(meters) = &meters {
            recorder.count_with(Arc::clone(meters));
        }
        let authority = Arc::new(Authority::new()?);
        let certificate = authority.certificate_pem().as_bytes().to_vec();
        let pins = Arc::new(names::pins());
        let (rules, limits) = bounds(self.config, home)?;
        let resolver = names::resolver(self.config, (&pins, &rules), &recorder);
        // What `landjail` connects gets there by whichever door there is.
        let has_v6 = self.walls.jail() == Choice::Landjail || self.doors.has_v6();
        let parts = Parts {
            rules: Arc::clone(&rules),
            authority,
            pins: Arc::clone(&pins),
            recorder: recorder.clone(),
            origin,
            resolver: Arc::new(if has_v6 { resolver } else { resolver.without_v6() }),
        };
        let mut proxy = Proxy::new(parts, limits, names::egress(self.config, self.walls.jail()))?;
        proxy = proxy.weighing(memory::resident);
        if let Some(book) = &book {
            proxy = proxy.learning(book.lessons());
        }
        if let Some(prompt) = prompt {
            proxy = proxy.prompting(prompt);
        }
        let proxy = Arc::new(proxy);
        let shown = windows.showing(meters.map(|meters| {
            gauges::registry(&about, &meters, (&recorder, &proxy), self.walls.counts())
        }));
        let about = About::of(self.config, described, self.walls.jail());
        let control = Control::new((Arc::clone(&proxy), recorder.clone()), about);
        let control = (Arc::new(control), self.control);
        let doors = self.doors;
        let service = Service {
            proxy,
            shown,
            recorder,
            pins,
            doors,
            refusals,
            reports,
            rules,
            book,
            control,
            desk,
        };
        Ok((service, certificate))
    }

    /// What it was handed that is open.
    fn descriptors(&self) -> Vec<RawFd> {
        let doors = self.doors.tcp.iter().map(AsRawFd::as_raw_fd);
        let mut all: Vec<RawFd> =
            doors.chain(self.doors.dns.iter().map(AsRawFd::as_raw_fd)).collect();
        all.extend(self.sinks.descriptors());
        all.push(self.control.descriptor());
        all.extend(self.prompt.as_ref().and_then(Opened::descriptor));
        all
    }

    /// The session, as its record begins.
    fn recorded(&self) -> Session {
        let sockets = self.config.unix_sockets.iter();
        Session {
            id: self.session,
            jail: self.walls.jail().as_str(),
            labels: self.config.labels.clone(),
            query: self.config.audit_query,
            on_error: self.config.audit_on_error,
            command: name_of(&self.config.command),
            rules: self.config.policy.texts(),
            domain_match: self.config.policy.reading.as_str(),
            modes: self.modes(),
            unix_sockets: sockets.map(|path| path.display().to_string()).collect(),
        }
    }

    /// What decides beside the rules.
    fn modes(&self) -> Vec<String> {
        let Config { learn, prompt, real_dns, .. } = self.config;
        let all =
            [("learn", learn.is_some()), ("prompt", prompt.is_some()), ("use_real_dns", *real_dns)];
        all.into_iter().filter(|(_, is_on)| *is_on).map(|(mode, _)| mode.to_owned()).collect()
    }

    /// The session, for whoever asks which there are.
    fn described(&self) -> control::Session {
        control::Session {
            id: self.session.to_string(),
            pid: getppid().as_raw(),
            jail: self.walls.jail().as_str().to_owned(),
            command: name_of(&self.config.command),
            rules: self.config.policy.rules.len(),
            generation: 0,
            learning: self.config.learn.is_some(),
        }
    }

    /// Where what is learned goes, if anything is to be learned.
    fn book(&self) -> Result<Option<Book>, Said> {
        let Some(path) = &self.config.learn else { return Ok(None) };
        let book = Book::open(path, name_of(&self.config.command));
        book.map(Some).map_err(|error| {
            format!("--learn: name a file that can be written; {}: {error}", path.display()).into()
        })
    }

    /// Gives up every right, but what reading of the walls takes. What the record is written to was
    /// opened by the keeper, so that the user's own command cannot open it again.
    fn give_up(&self, needs: &[u32]) -> Result<(), Said> {
        setsid()?;
        SigSet::empty().thread_set_mask()?;
        stdio::detach_but_stderr()?;
        // Two for each connection; what is usual is fewer than the connections that may be open.
        process::raise_descriptors()?;
        self.identity.assume_with(needs)?;
        prctl::set_no_new_privs()?;
        prctl::set_dumpable(false)?;
        Ok(prctl::set_name(c"boundary-proxy")?)
    }
}

/// The name of a command's program, without its folder. Its arguments may be secret.
fn name_of(command: &[OsString]) -> String {
    let name = command.first().map(Path::new).and_then(Path::file_name);
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// Everything that serves the command.
struct Service {
    proxy: Arc<Proxy>,
    shown: Shown,
    recorder: Recorder,
    pins: Arc<Pins>,
    doors: Doors,
    refusals: Ring,
    reports: Reports,
    rules: Arc<Policies>,
    book: Option<Book>,
    control: (Arc<Control>, Door),
    desk: Option<Desk>,
}

impl Service {
    /// Serves until the keeper's line ends, then writes down what is known.
    fn run(mut self, line: StdStream) -> Result<(), Said> {
        faults::watch();
        let book = self.book.take();
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .build()?;
        let recorder = self.recorder.clone();
        // The keeper takes the end of the line for the end of the record.
        let mut until_recorded = Channel::from(line.try_clone()?);
        let heard = Arc::default();
        let served = runtime.block_on(self.serve(line, &heard));
        runtime.shutdown_background();
        if let Some(book) = book
            && let Err(error) = book.close()
        {
            tracing::error!(%error, "what was learned could not be written");
        }
        let usage = used_in(&heard.lock().unwrap_or_else(PoisonError::into_inner));
        if recorder.finish(FLUSH, usage) {
            until_recorded.send(&Message::Recorded)?;
        } else {
            tracing::error!("the record could not be written in full");
        }
        served
    }

    async fn serve(self, line: StdStream, heard: &Arc<Mutex<Vec<u8>>>) -> Result<(), Said> {
        line.set_nonblocking(true)?;
        let line = UnixStream::from_std(line)?;
        self.shown.serve();
        tokio::spawn(frugal::keep(Arc::clone(&self.proxy)));
        let (control, door) = self.control;
        if let Some(desk) = self.desk {
            desk.serve(Arc::clone(&self.proxy), Arc::clone(&control))?;
        }
        tokio::spawn(async move {
            if let Err(error) = control.serve(door).await {
                tracing::error!(%error, "the session cannot be told anything");
            }
        });
        let refused = (self.refusals, self.reports);
        let line = Line { line, heard: Arc::clone(heard) };
        let over = watch(line, refused, (self.recorder, self.pins, self.rules));
        let shutdown = async move {
            if let Err(error) = over.await {
                tracing::error!(%error, "what the kernel refuses cannot be recorded");
            }
        };
        Ok(self.proxy.serve(self.doors, shutdown).await?)
    }
}

/// The keeper's line, and what was said on it.
struct Line {
    line: UnixStream,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Line {
    /// Waits until something is said. False when nothing will be any more.
    async fn hears(&mut self) -> bool {
        let mut message = [0; 64];
        let length = self.line.read(&mut message).await.unwrap_or(0);
        let said = message.get(..length).unwrap_or_default();
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(said);
        length > 0
    }
}

/// Puts on record what the kernel half refuses, from the keeper's first message (the canary is
/// through) until the line ends, however it ends, and then what is left.
async fn watch(
    mut line: Line,
    (ring, reports): (Ring, Reports),
    (recorder, pins, rules): (Recorder, Arc<Pins>, Arc<Policies>),
) -> Result<(), Said> {
    if !line.hears().await {
        return Ok(());
    }
    let mut refusals = ring.open()?;
    let ring = readable(refusals.as_fd().try_clone_to_owned()?)?;
    let told = readable(reports.as_fd().try_clone_to_owned()?)?;
    loop {
        tokio::select! {
            hears = line.hears() => if !hears { break },
            ready = ring.readable() => {
                record(&mut refusals, &recorder, &pins);
                ready?.clear_ready();
            }
            ready = told.readable() => {
                heed(&reports, (&recorder, &pins), &rules)?;
                ready?.clear_ready();
            }
        }
    }
    record(&mut refusals, &recorder, &pins);
    heed(&reports, (&recorder, &pins), &rules)
}

/// Does what the usher has told of by now: records what it refused, enters the policies of rooms.
fn heed(
    reports: &Reports,
    (recorder, pins): (&Recorder, &Pins),
    rules: &Policies,
) -> Result<(), Said> {
    while let Some((told, lost)) = reports.next()? {
        miss(recorder, lost);
        match told {
            Told::Missed => {}
            Told::Dropped(refused) => {
                let (subject, decision) = refused.into_decision(|address| pins.name(address));
                drop(recorder.decide(&subject, decision));
            }
            Told::Refused(subject, decision) => drop(recorder.decide(&subject, decision)),
            Told::Entered(entry) => reports.answer(enter(entry, rules)),
            Told::Left(place) => reports.answer(rules.leave(place)),
        }
    }
    Ok(())
}

/// Enters the policy of a room, if it can be understood and the room is new.
fn enter(Entry { place, inside, rules: texts, exact }: Entry, rules: &Policies) -> bool {
    let parsed: Result<Vec<_>, _> = texts.iter().map(|text| text.parse()).collect();
    let Ok(parsed) = parsed else { return false };
    let reading = if exact { DomainMatch::Exact } else { DomainMatch::Subdomains };
    rules.enter(place, inside, parsed, reading)
}

/// Records every refusal that is there now.
fn record(refusals: &mut Refusals, recorder: &Recorder, pins: &Pins) {
    while let Some(refused) = refusals.next() {
        let (subject, decision) = refused.into_decision(|address| pins.name(address));
        drop(recorder.decide(&subject, decision));
    }
    match refusals.lost() {
        Ok(lost) => miss(recorder, lost),
        Err(error) => tracing::warn!(%error, "lost refusals could not be counted"),
    }
}

/// Counts refusals that nobody will hear of, if there are any.
fn miss(recorder: &Recorder, lost: u64) {
    if lost > 0 {
        recorder.missed(lost);
        tracing::warn!(lost, "refusals came faster than they could be read");
    }
}
