//! The session's side of `boundary ctl`: told to read its policy again, or to permit what it denied.
//!
//! *Standing*: the keeper binds the socket for the one user, the proxy serves it: it has the rules, and
//! no more rights than that user. *Never*: answers the command. Its mounts cover the socket, its
//! connections to unix sockets are led to its own alone, and a caller from another pid namespace, or
//! of another user, is turned away.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::guard::Guarded;
use super::save::{self, Unsaved};
use crate::audit::{Cause, Recorder};
use crate::cli::PolicyArgs;
use crate::config::{Config, Environment, Invoker, Policy, System};
use crate::control::{Answer, Ask, Denied, FOLDER, LONGEST, Session, socket};
use crate::jail::Choice;
use crate::jail::child::Identity;
use crate::proxy::Proxy;
use crate::rules::{self, DomainMatch, Rule, RuleSet};
use crate::sys::confinement;

/// How many are answered at once; who finds no room is closed.
const CALLERS: usize = 16;
/// How long a caller may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many refusals are told at once, how long what one asked may be, and how long they are together:
/// in JSON at most twice as long, which is read.
const MOST_TOLD: usize = 100;
const LONGEST_TOLD: usize = 4096;
const MOST_BYTES_TOLD: usize = 384 * 1024;
/// How long accepting pauses after an error.
const PAUSE: Duration = Duration::from_millis(100);

/// The socket, bound and not yet served.
#[derive(Debug)]
pub(super) struct Door(StdListener);

impl Door {
    /// Binds it in a session's directory, for one user alone.
    pub(super) fn bind(directory: &Path, identity: &Identity) -> io::Result<Self> {
        let folder = directory.join(FOLDER);
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        Self::bind_in(directory, &folder, identity).inspect_err(|_| drop(fs::remove_dir(&folder)))
    }

    /// Binds it in a folder of its own, which stays empty where that fails.
    fn bind_in(directory: &Path, folder: &Path, identity: &Identity) -> io::Result<Self> {
        let socket = socket(directory);
        let listener = StdListener::bind(&socket)?;
        let shown = fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))
            .and_then(|()| chown(&socket, Some(identity.uid), Some(identity.gid)))
            .and_then(|()| chown(folder, Some(identity.uid), Some(identity.gid)))
            .and_then(|()| listener.set_nonblocking(true));
        shown.inspect_err(|_| drop(fs::remove_file(&socket)))?;
        Ok(Self(listener))
    }

    /// The descriptor, which the proxy keeps.
    pub(super) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What may change while a session runs, and how.
pub(super) struct Control {
    proxy: Arc<Proxy>,
    recorder: Recorder,
    session: Session,
    wanted: PolicyArgs,
    user: Invoker,
    /// The policy with which the command was started, and its files.
    first: Policy,
    guarded: Guarded,
    jail: Choice,
    now: Mutex<Now>,
}

/// What is in force.
struct Now {
    /// The rules of the policy.
    rules: Vec<Rule>,
    reading: DomainMatch,
    /// Those that were added while it ran: they stay when the policy is read again.
    added: Vec<Rule>,
    /// What is on record of it.
    told: (Vec<String>, DomainMatch),
}

impl Now {
    /// What is to be on record of it.
    fn texts(&self) -> (Vec<String>, DomainMatch) {
        (self.rules.iter().chain(&self.added).map(ToString::to_string).collect(), self.reading)
    }

    fn rule_set(&self) -> RuleSet {
        RuleSet::new(self.rules.iter().chain(&self.added).cloned().collect(), self.reading)
    }
}

/// What a session tells of itself, and how its policy is read.
pub(super) struct About {
    /// What it is.
    pub(super) session: Session,
    /// The jail that stands.
    pub(super) jail: Choice,
    /// How its policy was asked for.
    pub(super) wanted: PolicyArgs,
    /// For whom.
    pub(super) user: Invoker,
    /// The policy as it was read first.
    pub(super) policy: Policy,
}

impl About {
    /// A session of a configuration.
    pub(super) fn of(config: &Config, session: Session, jail: Choice) -> Self {
        Self {
            session,
            jail,
            wanted: config.wanted.clone(),
            user: config.user.clone(),
            policy: config.policy.clone(),
        }
    }
}

impl Control {
    /// For a session that begins with a policy.
    pub(super) fn new((proxy, recorder): (Arc<Proxy>, Recorder), about: About) -> Self {
        let About { session, jail, wanted, user, policy } = about;
        let rules = policy.rules.iter().map(|written| written.rule.clone()).collect();
        let told = <(Vec<String>, DomainMatch)>::default();
        let mut now = Now { rules, reading: policy.reading, added: Vec::new(), told };
        now.told = now.texts();
        // In landjail a user's command has no mounts.
        let guarded = Guarded::open(&policy, user.uid, jail != Choice::Landjail);
        let (first, now) = (policy, Mutex::new(now));
        Self { proxy, recorder, session, wanted, user, first, guarded, jail, now }
    }

    /// Answers until the session ends. A hangup of this process, which has no terminal, is the same
    /// as being asked to reload, where the command cannot be who sends it.
    pub(super) async fn serve(self: Arc<Self>, door: Door) -> io::Result<()> {
        let listener = UnixListener::from_std(door.0)?;
        let mut hangup = signal(SignalKind::hangup())?;
        let room = Arc::new(Semaphore::new(CALLERS));
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if self.is_welcome(&stream) => {
                        let control = Arc::clone(&self);
                        let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
                        tokio::spawn(async move {
                            let _place = place;
                            if let Err(error) = control.converse(stream).await {
                                tracing::debug!(%error, "a caller of the control socket is gone");
                            }
                        });
                    }
                    Ok(_) => tracing::warn!("a stranger at the control socket was turned away"),
                    Err(error) => {
                        tracing::warn!(%error, "the control socket could not be served");
                        sleep(PAUSE).await;
                    }
                },
                Some(()) = hangup.recv() => self.hang_up(),
            }
        }
    }

    /// Reloads, unless the command may have asked for it: in a jail without a pid namespace it has our
    /// number, before Linux 6.12 nothing keeps its signals off, and it can write what its user can.
    fn hang_up(&self) {
        if self.jail == Choice::Landjail {
            return tracing::warn!(
                "a hangup reloads nothing in this jail: use `boundary ctl reload`"
            );
        }
        drop(self.reload(false));
    }

    /// Whether a caller is the session's user, or root, and in our own pid namespace.
    fn is_welcome(&self, stream: &UnixStream) -> bool {
        let Ok(peer) = stream.peer_cred() else { return false };
        let is_user = peer.uid() == 0 || peer.uid() == self.user.uid;
        is_user && peer.pid().is_some_and(|pid| confinement::is_beside(Pid::from_raw(pid)))
    }

    /// One question and its answer.
    async fn converse(&self, stream: UnixStream) -> io::Result<()> {
        let mut line = String::new();
        let mut stream = BufReader::new(stream);
        timeout(PATIENCE, (&mut stream).take(LONGEST).read_line(&mut line)).await??;
        let answer = match serde_json::from_str(&line) {
            Ok(Ask::Ps) => Answer::Session(self.describe()),
            Ok(Ask::Denied) => self.denied(),
            Ok(Ask::Reload { replaced }) => self.reload(replaced),
            Ok(Ask::Allow { sequence, rule, save }) => self.allow(sequence, rule.as_deref(), save),
            Err(error) => Answer::Failed(format!("not understood: {error}")),
        };
        let mut answer = serde_json::to_vec(&answer)?;
        answer.push(b'\n');
        timeout(PATIENCE, stream.get_mut().write_all(&answer)).await?
    }

    /// The session as it is now.
    fn describe(&self) -> Session {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = now.rules.len() + now.added.len();
        Session { rules, generation: self.proxy.generation(), ..self.session.clone() }
    }

    /// What was denied last.
    fn denied(&self) -> Answer {
        let all = self.proxy.denials(MOST_TOLD).into_iter().rev().map(|(sequence, denial)| {
            let (method, url) = match (&denial.intent, &denial.asked) {
                (Some(intent), _) => {
                    (intent.method().map(rules::Method::as_str), intent.url(false))
                }
                (None, Some(asked)) => (asked.method(), asked.url(false)),
                (None, None) => (None, String::new()),
            };
            let asked = format!("{} {url}", method.unwrap_or_default());
            let asked = shortened(asked.trim_start());
            let (code, rule) = (denial.code.as_str().to_owned(), denial.remedy());
            Denied { sequence, asked, code, rule }
        });
        // So that the answer is no longer than any that is read, the latest go before.
        let mut left = MOST_BYTES_TOLD;
        let fits = |denied: &Denied| {
            let length = denied.asked.len() + denied.rule.as_ref().map_or(0, String::len);
            left.checked_sub(length).map(|less| left = less).is_some()
        };
        let mut told: Vec<Denied> = all.take_while(fits).collect();
        told.reverse();
        Answer::Denied(told)
    }

    /// Reads the policy again. One that cannot be read changes nothing, and is told; nor does one that
    /// the command may have put in the place of the first, unless the user says that it did not.
    fn reload(&self, is_replaced: bool) -> Answer {
        let environment = Environment::own();
        let machine = self.guarded.reading(is_replaced);
        let at = (&machine as &dyn System, &self.user);
        let read = self.first.again(&self.wanted, &environment, at, self.session.learning);
        let policy = match read {
            Ok(policy) => policy,
            Err(error) => {
                tracing::error!(%error, "the policy was not reloaded: the one before stays in force");
                return Answer::Failed(format!("{error}; the policy before stays in force"));
            }
        };
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.rules = policy.rules.into_iter().map(|written| written.rule).collect();
        now.reading = policy.reading;
        self.put_in_force(&mut now, Cause::Reload);
        let count = now.rules.len() + now.added.len();
        tracing::warn!(
            rules = count,
            generation = self.proxy.generation(),
            "the policy was reloaded"
        );
        let plural = if count == 1 { "" } else { "s" };
        Answer::Done(format!("{count} rule{plural} in force"))
    }

    /// Puts what is to be in force there. That it has changed is on its way to the record before anything is
    /// decided by it.
    fn put_in_force(&self, now: &mut Now, cause: Cause) {
        let texts = now.texts();
        if texts != now.told {
            let (rules, reading) = texts.clone();
            self.recorder.note_policy(rules, reading.as_str(), cause);
            now.told = texts;
        }
        self.proxy.replace_rules(now.rule_set());
    }

    /// Permits what was denied under a number.
    fn allow(&self, sequence: u64, rule: Option<&str>, save: bool) -> Answer {
        let Some(denial) = self.proxy.denied(sequence) else {
            return Answer::Failed(format!("no request was denied under the number {sequence}"));
        };
        let Some(intent) = denial.intent.clone() else {
            return Answer::Failed(format!("no rule permits this: {}", denial.code.meaning()));
        };
        let Some(remedy) = denial.remedy() else {
            return Answer::Failed(format!("no rule permits this: {}", denial.code.meaning()));
        };
        let text = rule.map_or(remedy, str::to_owned);
        let parsed: Rule = match text.parse() {
            Ok(parsed) => parsed,
            Err(mistake) => return Answer::Failed(format!("rule `{text}`: {mistake}")),
        };
        let reading = self.now.lock().unwrap_or_else(PoisonError::into_inner).reading;
        let missed = parsed.missed(&intent, reading);
        if !missed.is_empty() {
            let missed: Vec<&str> = missed.iter().map(|part| part.as_str()).collect();
            let url = intent.url(false);
            return Answer::Failed(format!(
                "`{text}` does not permit {url}: {}",
                missed.join(", ")
            ));
        }
        if let Some(address) = denial.address.filter(|address| !parsed.names(*address)) {
            let host = intent.host();
            return Answer::Failed(format!("`{text}` does not name {address}, where {host} led"));
        }
        tracing::warn!(rule = text, sequence, "a rule was added for this session");
        let added = self.permit(parsed, save, Cause::Allow(sequence));
        if !self.proxy.grants(sequence) {
            return Answer::Failed(format!(
                "`{text}` is in force, but a policy inside this session denies it still"
            ));
        }
        match added {
            Ok(()) if save => {
                Answer::Done(format!("`{text}` permits it, and is in the policy file"))
            }
            Ok(()) => Answer::Done(format!("`{text}` permits it for the rest of this session")),
            Err(error) => Answer::Failed(format!(
                "`{text}` permits it for the rest of this session, but was not saved: {error}"
            )),
        }
    }

    /// Puts a rule in force for the rest of the session, and into the policy's file where that is
    /// wanted. It is in force whether or not it can be written.
    pub(super) fn permit(&self, rule: Rule, save: bool, cause: Cause) -> Result<(), Unsaved> {
        let text = rule.to_string();
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if !now.added.contains(&rule) {
            now.added.push(rule);
            self.put_in_force(&mut now, cause);
        }
        // Under the lock, so that of two that are written at once none is lost.
        if save { save::save(self.first.file.as_deref(), &text) } else { Ok(()) }
    }
}

/// What was asked, as far as there is room to tell it.
fn shortened(asked: &str) -> String {
    match asked.char_indices().nth(LONGEST_TOLD) {
        Some((end, _)) => format!("{}…", asked.get(..end).unwrap_or_default()),
        None => asked.to_owned(),
    }
}
