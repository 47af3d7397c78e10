//! What a program writes, collected while it runs, so that a test can wait for a word of it.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// The text so far, and whether more can come.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    ended: bool,
}

/// Collects one stream.
#[derive(Clone, Default)]
pub(crate) struct Screen {
    text: Arc<(Mutex<Text>, Condvar)>,
}

impl Screen {
    /// Reads a stream to its end, in a thread of its own.
    pub(crate) fn collect(mut stream: impl Read + Send + 'static) -> Self {
        let screen = Self::default();
        let filling = screen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 8192];
            // A terminal ends with an error (EIO), a pipe with nought.
            while let Ok(length @ 1..) = stream.read(&mut bytes) {
                filling.text.0.lock().expect("not poisoned").bytes.extend(&bytes[..length]);
                filling.text.1.notify_all();
            }
            filling.text.0.lock().expect("not poisoned").ended = true;
            filling.text.1.notify_all();
        });
        screen
    }

    /// A screen on which nothing will ever stand.
    pub(crate) fn empty() -> Self {
        Self::collect(std::io::empty())
    }

    /// Waits for a word; false when it did not come in time or cannot come any more.
    pub(crate) fn wait_for(&self, word: &str, patience: Duration) -> bool {
        let has = |text: &Text| String::from_utf8_lossy(&text.bytes).contains(word);
        self.wait(patience, |text| has(text) || text.ended, has)
    }

    /// Waits for the end of the stream.
    pub(crate) fn wait_for_end(&self, patience: Duration) -> bool {
        self.wait(patience, |text| text.ended, |text| text.ended)
    }

    /// Waits until something is so, and says whether another thing is.
    fn wait(
        &self,
        patience: Duration,
        until: impl Fn(&Text) -> bool,
        result: impl Fn(&Text) -> bool,
    ) -> bool {
        let guard = self.text.0.lock().expect("not poisoned");
        let (guard, _) = self
            .text
            .1
            .wait_timeout_while(guard, patience, |text| !until(text))
            .expect("not poisoned");
        result(&guard)
    }

    /// What stands there now.
    pub(crate) fn read(&self) -> String {
        String::from_utf8_lossy(&self.text.0.lock().expect("not poisoned").bytes).into_owned()
    }
}
