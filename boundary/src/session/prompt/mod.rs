//! `--prompt`: a person is asked where no rule permits a request.
//!
//! *Standing*: the proxy sends questions and waits; a thread of its own puts one after the other to the
//! terminal or a program, and each yes into force as a rule. *Never*: waits for anything that a
//! connection of another request needs; takes a word of the command for an answer. The command may
//! share the terminal, and write to it, but not read what stands there: an answer has to repeat a number
//! that does.

mod program;
mod terminal;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use self::program::Program;
use self::terminal::Terminal;
use super::control::Control;
use crate::audit::Cause;
use crate::config::{Invoker, Prompt};
use crate::proxy::{MOST_ASKED, Proxy, Question};
use crate::rules::{Method, Rule};

/// The longest rule that anybody is asked about: beyond, nobody reads it.
const LONGEST: usize = 2000;

/// What is said of a program whose file the command could write to.
const UNGUARDED: &str = "in this jail the command could change the program: it has to belong to another \
                         user, and be for nobody else to write";

/// What a person says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Yes, while the session runs.
    Allow,
    /// Yes, and write it into the policy's file.
    Save,
    /// No.
    Deny,
    /// No, and ask about nothing any more.
    Never,
    /// Nothing before it was too late.
    Silence,
}

/// Where questions are put.
#[derive(Debug)]
enum Window {
    Terminal(Terminal),
    Program(Program),
}

/// What was opened for a prompt before rights were given up.
#[derive(Debug)]
pub(super) enum Opened {
    /// The terminal.
    Terminal(Terminal),
    /// A program that is started later, as the user.
    Program(std::path::PathBuf),
}

impl Opened {
    /// Opens what has to be opened by a process that has a terminal. Where the jail does not guard
    /// the file of a program, it has to be one that the command's user cannot write to: a shell goes
    /// on reading its script while it runs, outside of the walls.
    pub(super) fn open(
        prompt: &Prompt,
        is_guarded: bool,
        user: &Invoker,
    ) -> io::Result<Option<Self>> {
        match prompt {
            Prompt::Nobody => Ok(None),
            Prompt::Terminal => Terminal::open()
                .map(|it| Some(Self::Terminal(it)))
                .map_err(|error| io::Error::other(format!("no terminal to ask on: {error}"))),
            Prompt::Program(path) => {
                let file = fs::metadata(path)?;
                let is_ours = user.uid == 0 || file.uid() == user.uid || file.mode() & 0o022 != 0;
                if is_ours && !is_guarded {
                    return Err(io::Error::other(UNGUARDED));
                }
                Ok(Some(Self::Program(path.clone())))
            }
        }
    }

    /// The descriptor that the proxy keeps, if it is one.
    pub(super) fn descriptor(&self) -> Option<RawFd> {
        match self {
            Self::Terminal(terminal) => Some(terminal.as_raw_fd()),
            Self::Program(_) => None,
        }
    }
}

/// Who is asked, before there is anything to ask.
#[derive(Debug)]
pub(super) struct Desk {
    window: Window,
    questions: mpsc::Receiver<Question>,
}

impl Desk {
    /// A desk and its line for questions. A program is started now, before the command could change
    /// what it is.
    pub(super) fn open(opened: Opened) -> io::Result<(Self, mpsc::Sender<Question>)> {
        let (sender, questions) = mpsc::channel(MOST_ASKED);
        let window = match opened {
            Opened::Terminal(terminal) => Window::Terminal(terminal),
            Opened::Program(path) => Window::Program(Program::start(&path)?),
        };
        Ok((Self { window, questions }, sender))
    }

    /// Answers questions until there can be no more, on a thread of its own.
    pub(super) fn serve(self, proxy: Arc<Proxy>, control: Arc<Control>) -> io::Result<()> {
        let Self { mut window, mut questions } = self;
        let mut memory = Memory::default();
        let work = move || {
            while let Some(question) = questions.blocking_recv() {
                let is_permitted = memory.answer(&question, &mut window, (&proxy, &control));
                // Whoever asked may be gone.
                question.answer.send(is_permitted).unwrap_or_default();
            }
        };
        thread::Builder::new().name("prompt".to_owned()).spawn(work)?;
        Ok(())
    }
}

/// What was answered so far.
#[derive(Debug, Default)]
struct Memory {
    refused: HashSet<String>,
    is_tired: bool,
}

impl Memory {
    /// Whether a request is permitted now. It is asked about if that was not answered before.
    fn answer(
        &mut self,
        question: &Question,
        window: &mut Window,
        (proxy, control): (&Proxy, &Control),
    ) -> bool {
        let Some(asked) = Asked::of(question) else { return false };
        // While it waited, the same may have been asked, or the policy read again.
        if question.denial.intent.as_ref().is_some_and(|intent| proxy.permits(intent)) {
            return true;
        }
        let is_refused = self.is_tired || self.refused.contains(asked.rule.as_str());
        if is_refused || question.answer.is_closed() || question.until <= Instant::now() {
            return false;
        }
        let answer = window.ask(&asked, question.until);
        let rule = asked.rule.as_str();
        tracing::warn!(rule, answer = ?answer, "asked");
        match answer {
            Answer::Allow | Answer::Save => {
                if let Err(error) =
                    control.permit(asked.rule.clone(), answer == Answer::Save, Cause::Prompt)
                {
                    tracing::error!(rule, %error, "it is permitted, but was not saved");
                    window.tell(&format!("it is permitted, but was not saved: {error}"));
                }
                true
            }
            Answer::Deny => {
                self.refused.insert(rule.to_owned());
                false
            }
            Answer::Never => {
                self.is_tired = true;
                false
            }
            Answer::Silence => false,
        }
    }
}

impl Window {
    fn ask(&mut self, asked: &Asked, until: Instant) -> Answer {
        match self {
            Self::Terminal(terminal) => terminal.ask(asked, until),
            Self::Program(program) => program.ask(asked, until),
        }
    }

    /// Says something, where there is somebody who reads it.
    fn tell(&mut self, text: &str) {
        if let Self::Terminal(terminal) = self {
            terminal.tell(text);
        }
    }
}

/// A question, as it is put.
#[derive(Debug)]
struct Asked {
    method: String,
    url: String,
    rule: Rule,
    /// The program's name, as it calls itself, and its number.
    program: Option<(String, u32)>,
}

impl Asked {
    /// What is asked, if a rule of a bearable length would permit it.
    fn of(question: &Question) -> Option<Self> {
        let intent = question.denial.intent.as_ref()?;
        let rule = question.denial.remedy().filter(|rule| rule.len() <= LONGEST)?;
        let process = question.process.as_ref();
        Some(Self {
            method: intent.method().map_or("", Method::as_str).to_owned(),
            url: intent.url(false),
            rule: rule.parse().ok()?,
            program: process.map(|process| (process.comm.clone(), process.pid)),
        })
    }

    /// For a program.
    fn json(&self, until: Instant) -> Value {
        json!({
            "method": self.method,
            "url": self.url,
            "rule": self.rule.as_str(),
            "program": self.program.as_ref().map(|(name, _)| name),
            "pid": self.program.as_ref().map(|(_, pid)| pid),
            "seconds": until.saturating_duration_since(Instant::now()).as_secs(),
        })
    }

    /// For a person. What the command had a hand in cannot move the cursor.
    fn text(&self) -> String {
        let by = self.program.as_ref();
        let by = by.map_or_else(String::new, |(name, pid)| {
            format!(" asked for by {} ({pid})", name.escape_debug())
        });
        let url = self.url.escape_debug();
        format!("{} {url}{by}", self.method).trim_start().to_owned()
    }
}
