//! A person who may be asked, where no rule permits a request.
//!
//! *Standing*: the session takes the questions and, for a yes, puts a rule in force; then the rules are
//! asked once more, so that a permit is theirs as ever. *Never*: decides; makes any connection wait but
//! the one whose request it is, or that longer than `prompt_time`.

use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Proxy;
use super::body::Account;
use super::flow::Call;
use crate::audit::Process;
use crate::rules::{Code, Denial, Intent, Permit};

/// How many questions may wait for one person. A further request is denied at once.
pub const MOST_ASKED: usize = 32;

/// A request that waits for an answer.
#[derive(Debug)]
pub struct Question {
    /// What would be said to it.
    pub denial: Denial,
    /// Who asks for it.
    pub process: Option<Process>,
    /// How long it waits.
    pub until: Instant,
    /// Told true where a rule was put in force for it.
    pub answer: oneshot::Sender<bool>,
}

impl Proxy {
    /// The proxy, asking a person where no rule permits something.
    #[must_use]
    pub fn prompting(self, prompt: mpsc::Sender<Question>) -> Self {
        Self { prompt: Some(prompt), ..self }
    }

    /// Whether anybody may be asked.
    pub(super) fn prompts(&self) -> bool {
        self.prompt.is_some()
    }

    /// Whether the outermost policy permits something as it is now.
    pub fn permits(&self, intent: &Intent) -> bool {
        self.rules.outer().decide(intent.clone()).is_ok()
    }

    /// What the rules say to an intent; where that is no, and somebody may be asked, once more after
    /// the answer.
    pub(super) async fn decide(&self, call: &Call, intent: Intent) -> Result<Permit, Denial> {
        match self.rules_of(call).decide(intent) {
            Err(denial) => self.appeal(call, denial).await,
            decided => decided,
        }
    }

    /// What becomes of a refusal by the rules, where somebody may be asked.
    pub(super) async fn appeal(&self, call: &Call, denial: Denial) -> Result<Permit, Denial> {
        match denial.intent.clone().filter(|_| denial.code == Code::NoRule) {
            Some(intent) => self.ask(call, intent, denial).await,
            None => Err(denial),
        }
    }

    /// Asks whoever is there to be asked.
    async fn ask(&self, call: &Call, intent: Intent, denial: Denial) -> Result<Permit, Denial> {
        // A policy inside that denies what the outermost permits cannot be widened from here.
        let Some(prompt) = self.prompt.as_ref().filter(|_| !self.permits(&intent)) else {
            return Err(denial);
        };
        let patience = self.limits.prompt_time;
        let (answer, answered) = oneshot::channel();
        let until = Instant::now() + patience;
        let process = call.subject.process.as_deref().cloned();
        let question = Question { denial: denial.clone(), process, until, answer };
        if prompt.try_send(question).is_err() {
            tracing::warn!(url = intent.url(false), "too many questions wait: it was not asked");
            return Err(denial);
        }
        let open = Open { proxy: self, call, denial: Some(&denial) };
        let is_permitted = tokio::select! {
            answer = timeout(patience, answered) => matches!(answer, Ok(Ok(true))),
            () = self.closing() => false,
        };
        open.close();
        if is_permitted {
            return self.rules_of(call).decide(intent);
        }
        Err(Denial { code: Code::Declined, ..denial })
    }
}

/// A question that is open. Who asked may leave meanwhile, and was refused then: that is on record.
struct Open<'a> {
    proxy: &'a Proxy,
    call: &'a Call,
    denial: Option<&'a Denial>,
}

impl Open<'_> {
    /// Whoever asked hears what became of it.
    fn close(mut self) {
        self.denial = None;
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(denial) = self.denial {
            let declined = Denial { code: Code::Declined, ..denial.clone() };
            drop(Account::new(self.proxy.deny(self.call, declined)));
        }
    }
}
