//! Policy files: whatever they hold, they are a policy or a mistake that is told.

#![no_main]

use std::io;
use std::path::{Path, PathBuf};

use boundary::cli::{Args, PolicyArgs};
use boundary::config::{Account, Config, Environment, System};
use libfuzzer_sys::fuzz_target;

/// A machine with one file.
struct One<'a>(&'a [u8]);

impl System for One<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == Path::new("policy.yaml") {
            Ok(self.0.to_vec())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn exists(&self, _path: &Path) -> bool {
        false
    }

    fn account(&self, _uid: u32) -> Option<Account> {
        Some(Account {
            name: "user".into(),
            gid: 1,
            home: PathBuf::from("/home/user"),
            shell: PathBuf::from("/bin/sh"),
        })
    }
}

fuzz_target!(|bytes: &[u8]| {
    let policy = PolicyArgs { config: Some("policy.yaml".into()), ..PolicyArgs::default() };
    let args = Args { policy, command: vec!["true".into()], ..Args::default() };
    match Config::resolve(args, &Environment::default(), &One(bytes)) {
        Ok(config) => assert!(!config.command.is_empty()),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            drop(error.hint());
        }
    }
});
