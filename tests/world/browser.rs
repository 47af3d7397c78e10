//! A browser without a screen, driven by its debugging protocol over two pipes.
//!
//! *Never*: waits for ever for an answer.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use super::{Output, Session, World};

/// How long an answer may take on a machine with other things to do.
const PATIENCE: Duration = Duration::from_mins(1);

/// Starts the browser with its protocol on the two pipes that are named after it.
const START: &str = "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
    --no-first-run --disable-background-networking --disable-component-update --disable-sync \
    --user-data-dir=\"$1\" --remote-debugging-pipe 3<\"$2\" 4>\"$3\"";

/// A browser with one page.
pub(crate) struct Browser<'w> {
    session: Session<'w>,
    commands: File,
    answers: Receiver<Value>,
    target: String,
    number: u64,
    /// What the browser told without being asked.
    pub(crate) events: Vec<Value>,
}

impl<'w> Browser<'w> {
    /// Starts one in the host, with an empty page.
    pub(crate) fn start(world: &'w World) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let folder = world.folder().join(format!("tmp/b{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&folder).expect("the folder is ours");
        let [profile, commands, answers] =
            ["profile", "commands", "answers"].map(|it| folder.join(it));
        for pipe in [&commands, &answers] {
            mkfifo(pipe, Mode::S_IRUSR | Mode::S_IWUSR).expect("the folder is ours");
        }
        let text = |path: &PathBuf| path.to_str().expect("our own name").to_owned();
        let places = [text(&profile), text(&commands), text(&answers)];
        let line =
            [&["sh", "-c", START, "sh"][..], &places.each_ref().map(String::as_str)].concat();
        let session = world.bare(&line).start();
        let answers = listen(&answers);
        // For both: so that opening it does not wait for a browser that never starts.
        let commands = OpenOptions::new().read(true).write(true).open(commands).expect("a pipe");
        let (target, events) = (String::new(), Vec::new());
        let mut browser = Self { session, commands, answers, target, number: 0, events };
        browser.open_page();
        browser
    }

    /// Opens the one page and listens to what happens there.
    fn open_page(&mut self) {
        let made = self.ask("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": made["targetId"], "flatten": true});
        let attached = self.ask("Target.attachToTarget", &attach);
        attached["sessionId"].as_str().expect("a session").clone_into(&mut self.target);
        for domain in ["Page.enable", "Log.enable", "Network.enable", "Runtime.enable"] {
            self.ask(domain, &json!({}));
        }
    }

    /// Sends a command and waits for its answer.
    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.number += 1;
        let mut command = json!({"id": self.number, "method": method, "params": params});
        if !self.target.is_empty() {
            command["sessionId"] = json!(self.target);
        }
        let sent = self.commands.write_all(format!("{command}\0").as_bytes());
        sent.expect("the browser reads");
        let number = json!(self.number);
        let answer = self.wait(method, |message| message["id"] == number);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Shows a file and waits until it is there.
    pub(crate) fn show(&mut self, path: &Path) {
        self.events.clear();
        self.ask("Page.navigate", &json!({"url": format!("file://{}", path.display())}));
        let is_loaded = |it: &Value| it["method"] == "Page.loadEventFired";
        if !self.events.iter().any(is_loaded) {
            self.wait("the page", is_loaded);
        }
    }

    /// What an expression is in the page. The page's own policy does not bind whoever debugs it.
    pub(crate) fn find(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true});
        let found = self.ask("Runtime.evaluate", &asked);
        assert!(found["exceptionDetails"].is_null(), "{expression}: {found}");
        found["result"]["value"].clone()
    }

    /// Shows pages as on a screen of that size, with these preferences.
    pub(crate) fn resize(&mut self, (width, height): (u32, u32), scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1,
            "mobile": width < 600});
        self.ask("Emulation.setDeviceMetricsOverride", &size);
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.ask("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// Presses the tab key.
    pub(crate) fn tab(&mut self) {
        for kind in ["rawKeyDown", "keyUp"] {
            let key = json!({"type": kind, "key": "Tab", "code": "Tab",
                "windowsVirtualKeyCode": 9});
            self.ask("Input.dispatchKeyEvent", &key);
        }
    }

    /// Closes it.
    pub(crate) fn close(mut self) -> Output {
        self.target.clear();
        self.ask("Browser.close", &json!({}));
        self.session.finish()
    }

    /// Waits for a message, and keeps the others.
    fn wait(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.answers.recv_timeout(left);
            let message = message.unwrap_or_else(|error| panic!("{what}: {error}"));
            if is_it(&message) {
                return message;
            }
            self.events.push(message);
        }
    }
}

/// Reads the browser's messages, each up to a nought, in a thread of its own.
fn listen(pipe: &Path) -> Receiver<Value> {
    let (found, messages) = sync_channel(256);
    let pipe = pipe.to_owned();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(File::open(pipe).expect("the browser writes"));
        let mut bytes = Vec::new();
        while reader.read_until(0, &mut bytes).is_ok_and(|length| length > 0) {
            bytes.pop();
            let message = serde_json::from_slice(&bytes).expect("the protocol is JSON");
            bytes.clear();
            if found.send(message).is_err() {
                return;
            }
        }
    });
    messages
}
