//! The policy as the proxy has it: replaced while connections are open, and learned from what they ask.
//!
//! *Standing*: every permit that is acted on passes [`Proxy::allow`]. *Never*: decides.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::body::Account;
use super::flow::Call;
use super::peek::Rewind;
use super::{Proxy, Stream};
use crate::audit::{Decision, Entry};
use crate::rules::{Denial, Host, Intent, Lessons, Permit, RuleSet, Scheme};

/// How many refusals are kept in mind.
const MOST_DENIED: usize = 1024;

/// A refusal that is kept in mind.
#[derive(Debug)]
pub(super) struct Denied {
    sequence: u64,
    denial: Denial,
    /// Where who asked is: a cgroup or a room.
    place: u64,
}

impl Proxy {
    /// The proxy, noting what is asked of it and learning to pass on what it cannot open.
    #[must_use]
    pub fn learning(self, lessons: Arc<Mutex<Lessons>>) -> Self {
        Self { lessons: Some(lessons), ..self }
    }

    /// Puts another policy in force: for the next request of every connection, and for streams that
    /// are passed on unopened at once.
    pub fn replace_rules(&self, rules: RuleSet) {
        self.rules.replace(rules);
        self.changed.send_replace(());
    }

    /// Puts a permit on record, and what it teaches in mind.
    pub(super) fn allow(&self, call: &Call, permit: &Permit) -> Entry {
        if let Some(lessons) = &self.lessons {
            let program = call.subject.process.as_ref().map(|process| process.comm.as_str());
            lessons.lock().unwrap_or_else(PoisonError::into_inner).note(permit, program);
        }
        call.record(&self.recorder, Decision::Allow(permit.clone()))
    }

    /// Sees to it that what is permitted is on record, also where its client leaves, or the session
    /// ends, before there is a way for it.
    pub(super) fn promise<'a>(&'a self, call: &'a Call, permit: &'a Permit) -> Promise<'a> {
        Promise { proxy: self, call, permit, is_open: true }
    }

    /// How often the policy was replaced.
    pub fn generation(&self) -> u64 {
        self.rules.generation()
    }

    /// Puts a refusal on record, and in mind for whoever wants to permit it after all.
    pub(super) fn deny(&self, call: &Call, denial: Denial) -> Entry {
        let entry = call.record(&self.recorder, Decision::Deny(denial.clone()));
        let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        if denied.len() >= MOST_DENIED {
            denied.pop_front();
        }
        let place = Self::place(call);
        denied.push_back(Denied { sequence: entry.sequence(), denial, place });
        entry
    }

    /// What was refused under a number of the record, if that was not long ago.
    pub fn denied(&self, sequence: u64) -> Option<Denial> {
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        denied.iter().find(|one| one.sequence == sequence).map(|one| one.denial.clone())
    }

    /// Whether what was refused under a number would be granted now, by every policy that it is under.
    pub fn grants(&self, sequence: u64) -> bool {
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        let is_granted = |one: &Denied| {
            let permit = self.rules.of(one.place).decide(one.denial.intent.clone()?).ok()?;
            one.denial.address.map_or(Ok(()), |address| permit.admits(address)).ok()
        };
        let one = denied.iter().find(|one| one.sequence == sequence);
        one.and_then(is_granted).is_some()
    }

    /// What was refused last, with its numbers, the latest at the end.
    pub fn denials(&self, most: usize) -> Vec<(u64, Denial)> {
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        let last = denied.iter().skip(denied.len().saturating_sub(most));
        last.map(|one| (one.sequence, one.denial.clone())).collect()
    }

    /// Resolves when the policy in force does not grant an intent any more, or not at the address where
    /// it is. Where a gateway is asked, no permit is asked about an address.
    pub(super) async fn withdrawn(&self, call: &Call, intent: &Intent, address: SocketAddr) {
        let address = (!self.upstream.goes_by_gateway(intent)).then_some(address.ip());
        let grants = || {
            let permit = self.rules_of(call).decide(intent.clone())?;
            address.map_or(Ok(()), |address| permit.admits(address))
        };
        let mut changed = self.changed.subscribe();
        while grants().is_ok() {
            // An error means that the proxy itself is gone, which is an end too.
            if changed.changed().await.is_err() {
                return;
            }
        }
        tracing::info!(url = intent.url(false), "the policy grants it no more: cut off");
    }

    /// The permit for a stream that is neither TLS nor HTTP, where the session learns.
    pub(super) fn learned(&self, call: &Call) -> Option<Permit> {
        let lessons = self.lessons.as_ref()?;
        let (host, port) = call.target.host()?;
        let intent = Intent::stream(Scheme::Tcp, host.clone(), port);
        self.learn(&mut lessons.lock().unwrap_or_else(PoisonError::into_inner), &intent);
        self.rules_of(call).decide(intent).ok()
    }

    /// Learns that a host is not to be opened, when a client does not take our certificate for it:
    /// its next attempt is passed on. Not of a host that was opened before: there the client had
    /// another reason.
    pub(super) fn learn_pinned(&self, host: &Host, port: u16) {
        let Some(lessons) = &self.lessons else { return };
        let mut lessons = lessons.lock().unwrap_or_else(PoisonError::into_inner);
        if !lessons.has_seen_inside(host) {
            self.learn(&mut lessons, &Intent::stream(Scheme::Tls, host.clone(), port));
        }
    }

    /// Adds the rule for a stream, if there may be one and there is none. The lessons are held
    /// meanwhile, so that of two that are added at once none is lost.
    fn learn(&self, lessons: &mut Lessons, intent: &Intent) {
        if self.rules.outer().decide(intent.clone()).is_ok() {
            return;
        }
        if let Some(rule) = lessons.stream(intent) {
            tracing::info!(%rule, "learned");
            self.replace_rules(self.rules.outer().with(rule));
        }
    }

    /// Passes a stream on that has no name, where the session learns or somebody permits it; else it is
    /// cut off.
    pub(super) async fn carry_unclear<S: Stream>(&self, stream: Rewind<S>, call: &Call) {
        if let Some(permit) = self.learned(call) {
            return self.pass(stream, call, permit).await;
        }
        match self.ask_unclear(call).await {
            Ok(permit) => self.pass(stream, call, permit).await,
            Err(denial) => self.cut_off(call, denial),
        }
    }
}

/// The word that what is permitted will be on record.
pub(super) struct Promise<'a> {
    proxy: &'a Proxy,
    call: &'a Call,
    permit: &'a Permit,
    is_open: bool,
}

impl Promise<'_> {
    /// Whoever has it goes on.
    pub(super) fn taken_over(mut self) {
        self.is_open = false;
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        if self.is_open {
            drop(Account::new(self.proxy.allow(self.call, self.permit)));
        }
    }
}
