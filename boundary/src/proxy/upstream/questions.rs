//! Questions where names are, each asked once however many wait for its answer.
//!
//! A thousand connections that a program opens at once would else be a thousand questions, which
//! the resolver drops. *Standing*: [`super::dial`] asks. *Never*: keeps an answer: whoever comes
//! later asks again, since the address may have changed.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::lookup_host;
use tokio::sync::OnceCell;

use crate::dns::Directory;

/// An answer that several wait for.
type Answer = Arc<OnceCell<Vec<IpAddr>>>;

/// The questions that are being asked.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: Mutex<HashMap<Box<str>, Answer>>,
    /// Who is asked, if it is not the system's resolver.
    directory: Option<Arc<Directory>>,
}

impl Questions {
    /// To a directory, or to the system's resolver without one.
    pub(super) fn to(directory: Option<Arc<Directory>>) -> Self {
        Self { open: Mutex::default(), directory }
    }

    /// The addresses of a name, in the resolver's order; at least one.
    pub(super) async fn ask(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let answer = Arc::clone(self.open().entry(name.into()).or_default());
        // Whoever gives up meanwhile leaves the question to the next who waits.
        let asked = Asked { questions: self, name, answer };
        asked.answer.get_or_try_init(|| self.look_up(name)).await.cloned()
    }

    /// Asks somebody who never answers, and whom everybody else waits for.
    #[cfg(test)]
    pub(super) fn stall(&self, name: &str) {
        let answer = Arc::clone(self.open().entry(name.into()).or_default());
        tokio::spawn(async move {
            let never = std::future::pending::<io::Result<Vec<IpAddr>>>;
            drop(answer.get_or_try_init(never).await);
        });
    }

    /// How many wait for an answer about a name of that kind.
    #[cfg(test)]
    pub(super) fn waiting(&self, name: &str) -> usize {
        // The table, and whom everybody waits for.
        self.open().get(name).map_or(0, |answer| Arc::strong_count(answer).saturating_sub(2))
    }

    /// Asks whoever is to be asked.
    async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        match &self.directory {
            // Few need it, and everybody else would carry its room.
            Some(directory) => Box::pin(directory.ask(name)).await,
            None => look_up(name).await,
        }
    }

    /// Nothing panics while it is held.
    fn open(&self) -> MutexGuard<'_, HashMap<Box<str>, Answer>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits for an answer; with the first that has it, or the last that gives up, the
/// question is closed.
struct Asked<'a> {
    questions: &'a Questions,
    name: &'a str,
    answer: Answer,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut open = self.questions.open();
        // The table and we: nobody else waits.
        let is_last = Arc::strong_count(&self.answer) <= 2;
        let is_ours = open.get(self.name).is_some_and(|answer| Arc::ptr_eq(answer, &self.answer));
        if is_ours && (is_last || self.answer.initialized()) {
            open.remove(self.name);
        }
    }
}

/// Asks the system's resolver.
async fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    let found: Vec<IpAddr> = lookup_host((name, 0)).await?.map(|found| found.ip()).collect();
    if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::Questions;

    #[tokio::test]
    async fn an_answer_is_shared_and_not_kept() {
        let questions = Questions::default();
        let (one, other) = tokio::join!(questions.ask("localhost"), questions.ask("localhost"));
        let one = one.unwrap();
        assert!(one.iter().all(std::net::IpAddr::is_loopback) && !one.is_empty());
        assert_eq!(one, other.unwrap());
        assert!(questions.open().is_empty());
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_is_closed() {
        let questions = Questions::default();
        {
            let mut asked = Box::pin(questions.ask("localhost"));
            let waker = std::task::Waker::noop();
            drop(asked.as_mut().poll(&mut std::task::Context::from_waker(waker)));
            assert_eq!(questions.open().len(), 1);
        }
        assert!(questions.open().is_empty());
    }
}
