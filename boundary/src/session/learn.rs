//! `--learn`: what a run asked for, written down as a policy when it is over.
//!
//! *Standing*: in the proxy's process, which has no more rights than the user who called. *Never*:
//! writes over a file that somebody else wrote.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use crate::rules::Lessons;

/// How a file begins that was learned before, and may be learned anew.
const HEAD: &str = "learned by boundary";

/// Where lessons go.
#[derive(Debug)]
pub(super) struct Book {
    path: PathBuf,
    command: String,
    lessons: Arc<Mutex<Lessons>>,
}

impl Book {
    /// Makes sure that the file can be written, before anything is learned. What was learned before
    /// stays until then.
    pub(super) fn open(path: &Path, command: String) -> io::Result<Self> {
        let mut begin = String::new();
        match File::open(path) {
            Ok(file) => drop(file.take(64).read_to_string(&mut begin)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if !begin.is_empty() && !begin.starts_with(&format!("# {HEAD}")) {
            return Err(io::Error::other("it is there already, and was not learned"));
        }
        let book = Self { path: path.to_owned(), command, lessons: Arc::default() };
        let (fresh, _) = book.fresh()?;
        fs::remove_file(fresh)?;
        Ok(book)
    }

    /// What is learned, for whoever hears of it.
    pub(super) fn lessons(&self) -> Arc<Mutex<Lessons>> {
        Arc::clone(&self.lessons)
    }

    /// Writes down what was learned, and says so.
    pub(super) fn close(&self) -> io::Result<()> {
        let lessons = self.lessons.lock().unwrap_or_else(PoisonError::into_inner);
        let from = format!("{HEAD} from a run of {}", self.command);
        let head = [
            &*from,
            "It permits what that run asked for, wanted or not: read it before you use it.",
        ];
        let result = self.write(&lessons.yaml(&head));
        let count = lessons.rules().len();
        let (path, plural) = (self.path.display(), if count == 1 { "" } else { "s" });
        // Where standard error is closed there is nobody to tell.
        drop(match &result {
            Ok(()) => writeln!(io::stderr(), "boundary: learned {count} rule{plural}: {path}"),
            Err(error) => writeln!(
                io::stderr(),
                "boundary: learned {count} rule{plural} and cannot write {path}: {error}"
            ),
        });
        result
    }

    /// Puts a whole file in place of the one that is there.
    fn write(&self, text: &str) -> io::Result<()> {
        let (fresh, mut file) = self.fresh()?;
        let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&fresh, &self.path));
        if written.is_err() {
            drop(fs::remove_file(&fresh));
        }
        written
    }

    /// A file beside the one to be written, of a name that nobody can foresee, and made anew: what the
    /// command may have put there is not followed.
    fn fresh(&self) -> io::Result<(PathBuf, File)> {
        let name = self.path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let fresh = format!(".{}.{}", name.to_string_lossy(), Uuid::new_v4().simple());
        let fresh = self.path.with_file_name(fresh);
        let file = OpenOptions::new().write(true).create_new(true).open(&fresh)?;
        Ok((fresh, file))
    }
}
