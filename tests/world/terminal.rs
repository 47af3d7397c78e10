//! A terminal with a person at it, who reads and types.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use nix::pty::{Winsize, openpty};

use super::screen::Screen;

/// How long the person waits for something to appear.
const PATIENCE: Duration = Duration::from_secs(30);

/// The person's side of a pseudo-terminal.
pub(crate) struct Terminal {
    keyboard: File,
    screen: Screen,
}

impl Terminal {
    /// A terminal and three descriptors for a program on it.
    pub(crate) fn open() -> (Self, [OwnedFd; 3]) {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).expect("the machine has terminals");
        let keyboard = File::from(pair.master);
        let screen = Screen::collect(keyboard.try_clone().expect("one more descriptor"));
        let again = || pair.slave.try_clone().expect("one more descriptor");
        (Self { keyboard, screen }, [again(), again(), again()])
    }

    /// Types.
    pub(crate) fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("the terminal is open");
    }

    /// Makes the window taller or flatter, as its user would by dragging its lower edge. One change:
    /// stty(1) sets columns by a second call, which is a second signal.
    pub(crate) fn resize(&self, rows: u16) {
        let size = ["rows", &rows.to_string()].map(str::to_owned);
        let keyboard = self.keyboard.try_clone().expect("one more descriptor");
        let stty = Command::new("stty").args(size).stdin(keyboard).status();
        assert!(stty.is_ok_and(|status| status.success()), "stty sets the size");
    }

    /// Waits until a text stands on the screen.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        let came = self.screen.wait_for(text, PATIENCE);
        assert!(came, "{text:?} never appeared on the terminal:\n{}", self.screen.read());
    }

    /// Everything that has stood on the screen.
    pub(crate) fn text(&self) -> String {
        self.screen.read()
    }
}
